"""A simulated deployment of the stages of tests/bank.py: payments pass by card, then by user, where logins and account
changes are merged with what the first stage hands on.

Which order the second stage takes depends on who was waited for; the journal says it, and all else is judged by brute
force over that order.
"""

from __future__ import annotations

__all__ = ["StagedStreamsWorld"]

import asyncio
import json
import random
from collections.abc import Callable, Sequence

import msgspec

from operators.plan import Plan, lean
from state.hashing import partition_of
from state.memory import MemoryRowStores
from streamproc.cli.compose import build_engine
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Faults, SimulatedEventLog
from streamproc.runtime.journal import CHAIN_START, JournalHead, chain_after, decode_entry
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import StageParts
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.worker import Worker
from tests.bank import Row, record
from tests.oracle.streams import HOUR, decide, features_of
from tests.simulation.pod import StageStores
from tests.simulation.world import _KEY, VirtualExecutor, World, _same

KEYS = {"payments": "card_id", "logins": "user_id", "account_changes": "user_id"}
Taken = list[tuple[str, int]]
"""(topic, offset), in the order in which a task took them."""


class StagedStreamsWorld(World):
    """`plans` on two partitions."""

    def __init__(self, plans: Sequence[Plan], rng: random.Random, faults: Faults) -> None:
        super().__init__(plans[-1], rng, faults)
        self.plans = [msgspec.structs.replace(plan, topic_partitions=2) for plan in plans]
        self.logs: list[SimulatedEventLog] = []
        self.rows: dict[str, list[Row]] = {}

    def client(self) -> SimulatedEventLog:
        self.logs.append(super().client())
        return self.logs[-1]

    async def feed_streams(self, rows: dict[str, list[Row]]) -> None:
        """Append rows of all streams, one stream after the other."""
        self.rows = {name: self.rows.get(name, []) + mine for name, mine in rows.items()}
        log = self.client()
        await prepare_topics(log, *self.plans)
        appender = log.appender()
        for name, mine in rows.items():
            for row in mine:
                key = str(row[KEYS[name]]).encode()
                tp = TopicPartition(f"bank.{name}", partition_of(key, self.partitions))
                value = json.dumps(record(name, row)).encode()
                await appender.append([OutputRecords(tp, [key], [value], self.clock.now_ms())])
        await appender.close()
        await log.close()

    def _worker(
        self, log: SimulatedEventLog, stores: MemoryRowStores, alive: Callable[[], bool],
        probe: Callable[[int], None], settings: WorkerSettings,
    ) -> tuple[Worker, asyncio.Future[None]]:  # fmt: skip
        executor = VirtualExecutor(lambda: self.rng.uniform(0, self.flush_seconds), alive)
        stages = []
        for number, plan in enumerate(self.plans):
            engine, self.state = build_engine(lean(plan), _KEY, probe=probe, memory_bytes=self.memory_bytes)
            states = StateKeeper(self.state, StageStores(stores, number), plan.state_fingerprint, executor)
            stages.append(StageParts(plan, engine, states))
        self.metrics.append(WorkerMetrics())
        worker = Worker(
            "bank", log, stages, clock=self.clock, executor=executor, metrics=self.metrics[-1], settings=settings,
            probe=probe,
        )  # fmt: skip
        return worker, asyncio.ensure_future(asyncio.sleep(0))

    # ---- the judge

    async def wrongs(self) -> list[str]:
        """What is wrong."""
        wrong: list[str] = []
        values: dict[tuple[str, int], dict[int, Row]] = {}
        for topic in {stream.topic for plan in self.plans for stream in plan.streams}:
            for partition in range(self.partitions):
                found = await self.read(topic, partition)
                values[topic, partition] = {offset: json.loads(value) for offset, value, _ in found}
        taken: dict[tuple[int, int], Taken] = {}
        for stage, plan in enumerate(self.plans):
            for partition in range(self.partitions):
                order, said = await self._journal(plan, partition, values)
                taken[stage, partition] = order
                wrong += [f"{plan.stage} {partition}: {what}" for what in said]
        if not wrong:
            wrong += self._handed_on(taken, values)
            for partition in range(self.partitions):
                wrong += await self._decided(partition, taken[1, partition], values)
        return wrong

    async def _journal(
        self, plan: Plan, partition: int, values: dict[tuple[str, int], dict[int, Row]]
    ) -> tuple[Taken, list[str]]:
        """Which records a task took, in order; what is wrong with the chain, or with the offsets that name it."""
        log = self.client()
        chain, number, order, wrong = CHAIN_START, 0, Taken(), list[str]()
        topics = [stream.topic for stream in plan.streams]
        at = dict.fromkeys(topics, 0)
        journal = TopicPartition(plan.topics.journal, partition)
        end = (await log.admin().end_offsets([journal]))[journal]
        scanner = log.scanner()
        scanner.seek(journal, 0)
        while scanner.position(journal) < end:
            for chunk in await scanner.poll(10):
                for headers in chunk.headers or []:
                    entry, body, after = decode_entry(headers)
                    chain = chain_after(chain, body)
                    if (entry.sequence, after) != (number, chain):
                        wrong.append(f"record {number}: sequence {entry.sequence}, or the chain breaks")
                    number += 1
                    for topic, start, stop in entry.ranges:
                        if start < at[topic]:
                            wrong.append(f"record {number}: {topic} from {start}, expected {at[topic]}")
                        at[topic] = stop
                        order += [(topic, at_) for at_ in range(start, stop) if at_ in values[topic, partition]]
        await scanner.close()
        committed = await log.admin().committed("bank", [TopicPartition(topic, partition) for topic in topics])
        await log.close()
        for tp, offset in committed.items():
            if (offset.offset, JournalHead.parse(offset.metadata).chain) != (at[tp.topic], chain):
                wrong.append(f"{tp.topic}: the committed offset is {offset}, the journal ends at {at[tp.topic]}")
        there = sorted((topic, offset) for topic in topics for offset in values[topic, partition])
        if sorted(order) != there:
            wrong.append(f"{len(order)} records were taken, of {len(there)}")
        return order, wrong

    def _handed_on(
        self, taken: dict[tuple[int, int], Taken], values: dict[tuple[str, int], dict[int, Row]]
    ) -> list[str]:
        """Each payment once, with the count of its card's in the order of its task."""
        wanted: dict[tuple[str, int], list[int]] = {}
        for partition in range(self.partitions):
            seen: list[Row] = []
            for topic, offset in taken[0, partition]:
                row = values[topic, partition][offset]
                if row["payment_id"] not in {one["payment_id"] for one in seen}:
                    seen.append(row)
                    mine = (one for one in seen if one["card_id"] == row["card_id"])
                    count = sum(row["at"] - HOUR < one["at"] <= row["at"] for one in mine)
                    wanted.setdefault((row["payment_id"], row["at"]), []).append(count)
                else:
                    wanted.setdefault((row["payment_id"], row["at"]), []).append(-1)
        topic = self.plans[1].stream.topic
        found: dict[tuple[str, int], list[int]] = {}
        for partition in range(self.partitions):
            for _, row in sorted(values[topic, partition].items()):
                count = row["card_n_1h"]
                found.setdefault((row["payment_id"], row["at"]), []).append(-1 if count is None else count)
        return [
            f"handed on {found.get(one)}, expected {count}, of {one}"
            for one, count in wanted.items()
            if found.get(one) != count
        ] + [f"{one} is handed on" for one in found.keys() - wanted.keys()]

    async def _decided(self, partition: int, order: Taken, values: dict[tuple[str, int], dict[int, Row]]) -> list[str]:
        numbers = {stream.topic: number for number, stream in enumerate(self.plans[1].streams)}
        names = ("payments", "logins", "account_changes")
        known = [{str(row["id"]): row for row in self.rows[name] if "again" not in row} for name in names]
        ids = ("payment_id", "login_id", "")
        seen: list[tuple[int, Row]] = []
        done: set[tuple[int, str]] = set()
        expected: list[Row] = []
        for topic, offset in order:
            number, value = numbers[topic], values[topic, partition][offset]
            name = str(value["source"]["lsn"] if number == 2 else value[ids[number]])
            row = known[number][name]
            again = (number, name) in done
            done.add((number, name))
            if not again:
                seen.append((number, row))
            if number == 0 and again:
                expected.append({"payment_id": name, "duplicate": True})
            elif number == 0:
                features = features_of(row, [(s, r) for s, r in seen if r["user_id"] == row["user_id"]])
                action, reasons = decide(features, row)
                del features["card_n_1h"]  # the first stage's, see `_handed_on`
                expected.append({"payment_id": name, "decision": action, "reasons": reasons, **features})
        topic = self.plans[1].topics.decisions
        decided = [json.loads(value) for _, value, _ in await self.read(topic, partition)]
        if len(decided) != len(expected):
            return [f"{partition}: {len(decided)} decisions, expected {len(expected)}"]
        return [
            f"{partition}: decided {got}, expected {want}"
            for got, want in zip(decided, expected, strict=True)
            if not all(_same(got.get(key), value) for key, value in want.items())
        ]
