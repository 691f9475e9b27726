"""A pipeline of two stages, payments for it, and what `backtest` says of them: the reference for `run`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.cli.conftest import START, Outcome, start

CHAIN = """\
pipeline: chain
partitions: 4
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 30d
    fields:
      payment_id: {type: string, from: Payment}
      shop: {type: string, from: Shop}
      card: {type: int64, from: Card}
      amount: {type: decimal(2), from: Amount, required: true}
      at: {type: timestamp, from: At}
stages:
  - name: shops
    partition_by: shop
    in_step: 1s
    features:
      shop_day: {of: amount, aggregates: [count, sum], over: 24h, name: "{group}_{aggregate}"}
      share: amount / shop_day_sum
  - name: cards
    partition_by: card
    features:
      card_day: {of: amount, aggregates: [count, sum, max], over: 24h, name: "{group}_{aggregate}"}
      before: previous(share)
      shops: {distinct: shop, over: 24h}
rules:
  - {id: many, when: card_day_count >= 4, then: decline, reason: four payments in a day}
  - {id: busy, when: shop_day_count >= 8, then: review, to: busy}
decision:
  severity: [decline, review, approve]
  otherwise: approve
  include: [amount, shop_day_count, shop_day_sum, share, card_day_count, card_day_sum, card_day_max, before, shops]
"""
Row = dict[str, Any]
NAMES = CHAIN.split("include: [")[1].split("]", maxsplit=1)[0].split(", ")


_PATIENCE_SECONDS = 240
"""Campaigns run beside much else."""


def finish(*arguments: object) -> Outcome:
    """The command line in a process of its own, awaited."""
    process = start(*arguments)
    out, err = process.communicate(timeout=_PATIENCE_SECONDS)
    return Outcome(process.returncode, out, err)


def chain(folder: Path, *changes: tuple[str, str], name: str = "chain") -> Path:
    """The pipeline's file, with each old text replaced."""
    return written(folder, CHAIN.replace("pipeline: chain", f"pipeline: {name}"), changes, name=name)


def written(folder: Path, text: str, changes: Iterable[tuple[str, str]], *, name: str) -> Path:
    """A pipeline's file, with each old text of it replaced, which must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def rows(count: int, seed: int = 1, repeats: int = 20) -> list[Row]:
    """Payments in order of event time, so far apart that partitions in step leave no choice; repeats, and bad ones."""
    chance = random.Random(seed)
    found: list[Row] = []
    at = START
    for n in range(count):
        at += timedelta(seconds=chance.randrange(2, 1_200))
        amount = None if chance.random() < 0.03 else chance.randrange(1, 10_000) / 100
        card = chance.choice([None, *range(1, 14)])
        found.append({"Payment": f"p{n}", "Shop": f"s{chance.randrange(9)}", "Card": card, "Amount": amount, "At": at})
    for _ in range(repeats):
        n = chance.randrange(count)
        found.insert(min(len(found), n + chance.randrange(1, 60)), dict(found[n]))
    return found


def ndjson(path: Path, given: list[Row]) -> Path:
    """One record a line, as `feed` and `backtest` read them."""
    lines = [json.dumps({**row, "At": int(row["At"].timestamp() * 1000)}) for row in given]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def backtested(pipeline: Path, files: list[Path], output: Path) -> list[Row]:
    """What each row should come to, in the files' order."""
    done = finish("backtest", pipeline, "--input", *files, "--output", output)
    assert done.code == 0, done.err
    return [_comparable(row) for row in pq.read_table(output).to_pylist()]


def decided(pipeline: Path, log: str) -> list[Row]:
    """What was decided, partition after partition."""
    done = finish("tail", "decisions", "--pipeline", pipeline, "--log", log, "--until-end")
    assert done.code == 0, done.err
    return [_comparable(json.loads(line)) for line in done.lines]


def _comparable(row: Row) -> Row:
    shown = {name: None if row.get(name) is None else round(float(row[name]), 9) for name in NAMES}
    told = {name: row[name] for name in ("payment_id", "decision")}
    return {**told, "reasons": sorted(row.get("reasons") or []), "duplicate": bool(row.get("duplicate")), **shown}


def in_order(found: list[Row]) -> list[tuple[Any, ...]]:
    """As values that can be compared, whatever order partitions were read in."""
    return sorted(tuple(map(repr, row.values())) for row in found)


def fed(pipeline: Path, log: str, file: Path) -> None:
    """The file is in the log."""
    done = finish("feed", "payments", file, "--pipeline", pipeline, "--log", log)
    assert done.code == 0, done.err


def ran(pipeline: Path, log: str, state: Path, *more: object) -> Outcome:
    """To the end of what is there."""
    done = finish("run", pipeline, "--log", log, "--state", state, "--until-end", *more)
    assert done.code == 0, done.err
    return done
