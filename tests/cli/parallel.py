"""A pipeline with stages side by side, and payments for it, some of which one of them refuses."""

from __future__ import annotations

__all__ = ["NAMES", "beside", "decisions", "letters", "payments", "roll_call", "told"]

import json
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.cli.chain import Row, finish, written
from tests.cli.conftest import START

TEXT = """\
pipeline: beside
partitions: 3
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 30d
    fields:
      payment_id: {type: string, from: Payment}
      card: {type: string, from: Card}
      merchant: {type: string, from: Merchant}
      device: {type: string, from: Device}
      user: {type: int64, from: User}
      amount: {type: decimal(2), from: Amount, required: true}
      at: {type: timestamp, from: At}
stages:
  - name: cards
    partition_by: card
    features:
      card_day: {of: amount, aggregates: [count, sum], over: 24h, name: "{group}_{aggregate}"}
  - parallel:
      - name: merchants
        partition_by: merchant
        features:
          merchant_day: {of: amount, aggregates: [count, sum], over: 24h, name: "{group}_{aggregate}"}
          share: amount / card_day_sum
      - name: devices
        partition_by: device
        features:
          device_users: {distinct: user, over: 24h}
          scaled: amount * 100000     # refuses large amounts: they leave 64 bits
    wait: 1h
  - name: users
    partition_by: user
    features:
      user_day: {of: amount, aggregates: [count, sum], over: 24h, name: "{group}_{aggregate}"}
      both: merchant_day_count + device_users
rules:
  - {id: shared, when: device_users >= 6, then: decline, reason: six users of a device in a day}
  - {id: busy, when: merchant_day_count >= 6 and user_day_count >= 3, then: review, to: busy}
decision:
  severity: [decline, review, approve]
  otherwise: approve
  include: [amount, card_day_count, card_day_sum, merchant_day_count, merchant_day_sum, share, device_users, scaled,
            user_day_count, user_day_sum, both]
"""
NAMES = " ".join(TEXT.split("include: [")[1].split("]", maxsplit=1)[0].split()).split(", ")
HUGE = 85_000_000_000_000.0


def beside(folder: Path, *changes: tuple[str, str], name: str = "beside") -> Path:
    """The pipeline's file, with each old text replaced."""
    return written(folder, TEXT.replace("pipeline: beside", f"pipeline: {name}"), changes, name=name)


def payments(count: int, seed: int = 1, repeats: int = 20) -> list[Row]:
    """In order of event time; some merchants and devices are missing, some rows repeat, some are refused."""
    chance = random.Random(seed)
    found: list[Row] = []
    at = START
    for n in range(count):
        at += timedelta(seconds=chance.randrange(2, 1_200))
        amount = HUGE if chance.random() < 0.03 else chance.randrange(1, 10_000) / 100
        places = {"Merchant": chance.choice([None, "", *(f"m{i}" for i in range(7))]), "Device": f"d{n % 11}"}
        named = {"Payment": f"p{n}", "Card": f"c{chance.randrange(20)}", "User": chance.choice([None, *range(1, 9)])}
        found.append({**named, **places, "Amount": amount, "At": at})
    for _ in range(repeats):
        n = chance.randrange(count)
        found.insert(min(len(found), n + chance.randrange(1, 60)), dict(found[n]))
    return found


def roll_call(given: Sequence[Row]) -> list[Row]:
    """A payment of each user, in the end, so far apart that there is one order: its windows show what there is."""
    at = max(row["At"] for row in given)
    return [
        {"Payment": f"call{user}", "Card": "c1", "Merchant": "m1", "Device": "d1", "User": user, "Amount": 1.0,
         "At": at + timedelta(minutes=5 * user)}
        for user in range(1, 9)
    ]  # fmt: skip


def told(pipeline: Path, files: Sequence[Path], output: Path) -> list[Row]:
    """What `backtest` says each row comes to."""
    done = finish("backtest", pipeline, "--input", *files, "--output", output)
    assert done.code == 0, done.err
    return [_comparable(row) for row in pq.read_table(output).to_pylist()]


def _tail(topic: str, pipeline: Path, log: str) -> list[Row]:
    done = finish("tail", topic, "--pipeline", pipeline, "--log", log, "--until-end")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.lines]


def decisions(pipeline: Path, log: str) -> list[Row]:
    """What `run` has decided."""
    return [_comparable(row) for row in _tail("decisions", pipeline, log)]


def letters(pipeline: Path, log: str) -> list[Row]:
    """All dead letters."""
    return _tail("dead_letters", pipeline, log)


def _comparable(row: dict[str, Any]) -> Row:
    shown = {name: None if row.get(name) is None else round(float(row[name]), 9) for name in NAMES}
    named = {name: row[name] for name in ("payment_id", "decision")}
    return {**named, "reasons": sorted(row.get("reasons") or []), "duplicate": bool(row.get("duplicate")), **shown}
