"""Runs a pipeline's statements over a file, as a backtest does; and the same statements over the file as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from operators.plan import Plan
from operators.schema import StreamSchema
from streamproc.cli.replay_files import FileReplay
from streamproc.cli.side_rows import file_pieces
from streamproc.language.compile import compile_stages
from streamproc.language.load import read_pipeline
from streamproc.sql.stream import compile_entry
from tests.sql.support import Row, ours

HEAD = """pipeline: shop
streams:
  payments:
    id: payment_id
    event_time: event_time
    fields:
      payment_id: string
      card_id: string
      amount: decimal(2)
      merchant_country: string
      cardholder_country: string
      items: int64
      online: bool
      event_time: timestamp
partition_by: card_id
watermark: {disorder: 2m, idle: 1m}
"""
TABLE = """CREATE TABLE payments (payment_id STRING NOT NULL, card_id STRING NOT NULL, amount DECIMAL(18, 2),
    merchant_country STRING, cardholder_country STRING, items BIGINT, online BOOLEAN, event_time TIMESTAMP(3) NOT NULL);
"""


def pipeline(head: str = HEAD, **statements: str) -> str:
    """A pipeline file with these statements."""
    entries = [
        f"  {name}: |\n" + "".join(f"    {line}\n" for line in sql.splitlines()) for name, sql in statements.items()
    ]
    return head + "sql:\n" + "".join(entries)


def plans_of(text: str) -> tuple[Plan, ...]:
    """The plans of a pipeline's text."""
    return compile_stages(read_pipeline(text, "p.yaml"), statements=compile_entry)


def streamed(text: str, files: Mapping[str, Path]) -> dict[str, list[Row]]:
    """The rows of each statement, in order."""
    plans = plans_of(text)
    (_, decided), *others = files.items()
    now_ms = time.time_ns() // 1_000_000
    sides = {name: file_pieces(_stream(plans, name), [path], now_ms) for name, path in others}
    replay = FileReplay(plans, sides)
    for _ in replay.run([decided]):
        pass
    replay.end()
    rows: dict[str, list[Row]] = {one.name: [] for plan in plans for one in plan.statements}
    for telling in replay.told():
        rows[telling.name].append(json.loads(telling.text))
    return rows


def _stream(plans: tuple[Plan, ...], name: str) -> StreamSchema:
    return next(stream for plan in plans for stream in plan.streams if stream.name == name)


def over_tables(sql: str, files: Mapping[str, Path], head: str = TABLE) -> list[Row]:
    """The rows of a query over whole tables."""
    return ours(head + sql, files)
