"""A simulated deployment of the pipeline of tests/bank.py, and its judge.

The journal says in which order rows were taken; all else is judged by brute force over that order: decisions, dead
letters, repeats. Where nobody was tired of waiting, the order is that of merging itself.
"""

from __future__ import annotations

__all__ = ["StreamsWorld", "slow_partitions"]

import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from operators.plan import Plan
from state.hashing import partition_of
from state.memory import MemoryDisk
from streamproc.cli.compose import build_engine
from streamproc.eventlog.contract import Chunk, OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Faults
from streamproc.eventlog.simulated.client import SimulatedScanner
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import CHAIN_START, JournalHead, chain_after, decode_entry
from streamproc.runtime.topics import prepare_topics
from tests.bank import Row, record
from tests.oracle.streams import decide, features_of, merged
from tests.simulation.world import _KEY, World

POISON = b'{"broken'
Place = tuple[int, int]
"""(stream, offset)"""


class StreamsWorld(World):
    """`plan` on two partitions."""

    def __init__(self, plan: Plan, rng: random.Random, faults: Faults) -> None:
        super().__init__(plan, rng, faults)
        self.topics = [stream.topic for stream in plan.streams]
        self.rows: dict[TopicPartition, list[Row | None]] = {
            TopicPartition(topic, p): [] for topic in self.topics for p in range(self.partitions)
        }

    def lose_disk(self) -> None:
        """The pod gets a new one."""
        self.disk = MemoryDisk(self.rng)

    async def feed_streams(self, rows: dict[str, list[Row]], poison: float = 0.03) -> None:
        """Append the rows of all streams, one stream after the other; a few broken ones between."""
        log = self.client()
        await prepare_topics(log, self.plan)
        appender = log.appender()
        for topic, (name, mine) in zip(self.topics, rows.items(), strict=True):
            for row in mine:
                user = row["user_id"].encode()
                tp = TopicPartition(topic, partition_of(user, self.partitions))
                if self.rng.random() < poison:
                    self.rows[tp].append(None)
                    await appender.append([OutputRecords(tp, [user], [POISON], self.clock.now_ms())])
                self.rows[tp].append(row)
                value = json.dumps(record(name, row)).encode()
                await appender.append([OutputRecords(tp, [user], [value], self.clock.now_ms())])
        await appender.close()
        await log.close()

    def _engine(self, probe: Any) -> Engine:
        engine, self.state = build_engine(self.plan, _KEY, probe=probe, memory_bytes=self.memory_bytes)
        return engine

    # ---- the judge

    def judged(self, row: Row, mine: list[tuple[int, Row]], features: Row) -> tuple[Row, str, list[str]]:
        """What a payment's decision says; `mine`: the user's rows up to it, with their streams."""
        return features, *decide(features, row)

    async def wrongs(self, *, in_order: bool) -> list[str]:
        """What is wrong; `in_order`: all was there from the start, and nobody was waited for too long."""
        wrong: list[str] = []
        for partition in range(self.partitions):
            order, said = await self._journal(partition)
            wrong += [f"partition {partition}: {what}" for what in said]
            if not said:
                wrong += [f"partition {partition}: {what}" for what in await self._decided(partition, order, in_order)]
        return wrong

    async def _journal(self, partition: int) -> tuple[list[Place], list[str]]:
        """The order of rows; what is wrong with the chain, with what it covers, or with the offsets that name it."""
        log = self.client()
        journal = TopicPartition(self.plan.topics.journal, partition)
        end = (await log.admin().end_offsets([journal]))[journal]
        scanner, chain, number = log.scanner(), CHAIN_START, 0
        scanner.seek(journal, 0)
        order: list[Place] = []
        at, wrong = dict.fromkeys(self.topics, 0), list[str]()
        while scanner.position(journal) < end:
            for chunk in await scanner.poll(10):
                for headers in chunk.headers or []:
                    entry, body, after = decode_entry(headers)
                    chain = chain_after(chain, body)
                    if (entry.sequence, after) != (number, chain):
                        wrong.append(f"record {number}: sequence {entry.sequence}, or the chain breaks")
                    number += 1
                    for topic, start, stop in entry.ranges:
                        if start != at[topic]:
                            wrong.append(f"record {number}: {topic} from {start}, expected {at[topic]}")
                        at[topic] = stop
                        order += [(self.topics.index(topic), offset) for offset in range(start, stop)]
        await scanner.close()
        inputs = [TopicPartition(topic, partition) for topic in self.topics]
        committed = await log.admin().committed(self.plan.pipeline, inputs)
        for tp in inputs:
            if at[tp.topic] != len(self.rows[tp]):
                wrong.append(f"{tp.topic} is journaled to {at[tp.topic]}, it ends at {len(self.rows[tp])}")
            head = JournalHead.parse(committed[tp].metadata) if tp in committed else JournalHead.start()
            if tp not in committed or (committed[tp].offset, head.chain) != (at[tp.topic], chain):
                wrong.append(f"{tp.topic}: the committed offset is {committed.get(tp)}")
        await log.close()
        return order, wrong

    async def _decided(self, partition: int, order: list[Place], in_order: bool) -> list[str]:
        inputs = [self.rows[TopicPartition(topic, partition)] for topic in self.topics]
        if in_order:
            dressed = [
                [{"time": None if r is None else r["time"], "at": (n, i)} for i, r in enumerate(some)]
                for n, some in enumerate(inputs)
            ]
            if (wanted := [row["at"] for _, row in merged(dressed)]) != order:
                return [f"the order is {order[:30]}, expected {wanted[:30]}"]
        seen: list[tuple[int, Row]] = []
        actions: dict[str, str] = {}
        expected: list[Row] = []
        dead: list[tuple[str, int]] = []
        known: set[tuple[int, Any]] = set()
        for stream, offset in order:
            row = inputs[stream][offset]
            if row is None:
                dead.append((self.topics[stream], offset))
                continue
            repeated = (stream, row["id"]) in known
            known.add((stream, row["id"]))
            if not repeated:
                seen.append((stream, row))
            if stream == 0 and repeated:
                expected.append(
                    {"payment_id": row["id"], "decision": actions[row["id"]], "duplicate": True, "reasons": []}
                )
            elif stream == 0:
                mine = [(s, r) for s, r in seen if r["user_id"] == row["user_id"]]
                features, action, reasons = self.judged(row, mine, features_of(row, mine))
                actions[row["id"]] = action
                expected.append({"payment_id": row["id"], "decision": action, "reasons": reasons, **features})
        decided = [json.loads(value) for _, value, _ in await self.read(self.plan.topics.decisions, partition)]
        letters = [json.loads(value) for _, value, _ in await self.read(self.plan.topics.dead_letters, partition)]
        wrong = []
        if sorted(dead) != sorted((letter["topic"], letter["offset"]) for letter in letters):
            wrong.append(f"dead letters {letters}, expected {dead}")
        if len(decided) != len(expected):
            wrong.append(f"{len(decided)} decisions, expected {len(expected)}")
        for got, want in zip(decided, expected, strict=False):
            if not all(_same(got.get(name), value) for name, value in want.items()):
                return [*wrong, f"decided {got}, expected {want}"]
        return wrong


def _same(got: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return got == wanted


@contextmanager
def slow_partitions(rng: random.Random, often: float) -> Iterator[None]:
    """A read of the log leaves partitions out, as if the brokers that have them had not answered yet."""
    real = SimulatedScanner.collect

    def collect(self: SimulatedScanner) -> list[Chunk]:
        silent = {tp: position for tp, position in self._positions.items() if rng.random() < often}
        self._positions = {tp: at for tp, at in self._positions.items() if tp not in silent}
        try:
            return real(self)
        finally:
            self._positions = silent | self._positions

    with mock.patch.object(SimulatedScanner, "collect", collect):
        yield
