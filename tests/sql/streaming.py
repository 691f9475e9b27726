"""Runs a pipeline's statements over a file, as a backtest does; row by row, with a restore in the middle; and the same
statements over the file as a table.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from operators.plan import Plan
from operators.schema import StreamSchema
from operators.timed.alerts import Telling
from state.memory import MemoryDisk, MemoryRowStores
from streamproc.cli.compose import build_engine
from streamproc.cli.replay_files import FileReplay
from streamproc.cli.side_rows import file_pieces
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.language.compile import compile_stages
from streamproc.language.load import read_pipeline
from streamproc.runtime.engine import Engine
from streamproc.runtime.rows import TaskInput
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


END = 1 << 60


def in_batches(text: str, records: Sequence[tuple[str, Row]], size: int, *, restore: bool) -> list[Row]:
    """The rows that `tellings` tells."""
    return [json.loads(telling.text) for telling in tellings(text, records, size, restore=restore)]


def tellings(text: str, records: Sequence[tuple[str, Row]], size: int, *, restore: bool) -> list[Telling]:
    """What a pipeline's one statement tells of records (stream, row) of one partition, `size` at a time (0: all).

    `restore`: in the middle a new process goes on from what was written. At the end the clock goes on without records.
    """
    (plan,) = plans_of(text)
    (key,) = {stream.key for stream in plan.streams}
    stores = MemoryRowStores(MemoryDisk(random.Random(0)))
    store = stores.open(0)
    engine, state = build_engine(plan, bytes(32))
    state.add_task(0, store)
    said: list[Telling] = []
    parts = [records[at : at + (size or len(records))] for at in range(0, len(records), size or len(records))]
    for number, part in enumerate([*parts, []]):
        if restore and number == (len(parts) + 1) // 2:
            cut = state.cut(0, b"m")
            cut.write(store)
            cut.written()
            engine, state = build_engine(plan, bytes(32))
            state.add_task(0, store)
        said += _told(engine, plan, key, part, None if part else END)
    return said


def _told(engine: Engine, plan: Plan, key: str, part: Sequence[tuple[str, Row]], tick: int | None) -> list[Telling]:
    topics = {stream.name: stream.topic for stream in plan.streams}
    source = TopicPartition(plan.stream.topic, 0)
    chunks = [] if part else [Chunk(source, [], [], [], [], 0)]
    for stream, some in groupby(part, key=lambda one: one[0]):
        rows = [row for _, row in some]
        keys, values = [str(row[key]).encode() for row in rows], [json.dumps(row).encode() for row in rows]
        at = list(range(len(rows)))
        fed = [END // 1000] * len(rows)
        chunks.append(Chunk(TopicPartition(topics[stream], 0), at, keys, values, fed, len(rows)))
    judged = engine.judge(engine.decode([TaskInput(0, source, chunks, tick)]), attempts_max=len(part) + 1)
    engine.publish()
    assert not judged.rows.refused
    found = engine.tellings(judged)
    assert all(0 <= one.row <= len(part) for one in found)
    return found
