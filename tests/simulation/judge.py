"""What came out, judged by its own read_committed reader against a sequential, fault-free run (I1-I6)."""

from __future__ import annotations

__all__ = ["judge"]

import json
import math
from collections.abc import Sequence
from typing import Any

from state.memory import MemoryDisk
from streamproc.eventlog.contract import NO_OFFSET, TopicPartition
from streamproc.eventlog.simulated import SimulatedCluster
from streamproc.eventlog.simulated.partition import Ending
from streamproc.runtime.journal import CHAIN_START, JournalEntry, JournalHead, chain_after, decode_entry
from tests.oracle.card_job import Expected, expect
from tests.simulation.pod import Shared
from tests.simulation.states import Record, judge_states

_CLOSE = 1e-9


def judge(shared: Shared, disks: Sequence[MemoryDisk]) -> list[str]:
    """What is wrong, in the log and on the `disks`. Nothing must be running any more."""
    wrong: list[str] = []
    cluster, plan = shared.cluster, shared.plan
    inputs: dict[int, list[Record]] = {}
    for task in range(shared.scenario.partitions):
        source = inputs[task] = committed_records(cluster, TopicPartition(plan.stream.topic, task))
        expected = expect([record[:3] for record in source])
        decided = committed_records(cluster, TopicPartition(plan.topics.decisions, task))
        dead = committed_records(cluster, TopicPartition(plan.topics.dead_letters, task))
        wrong += [f"task {task}: {what}" for what in _decisions(expected, [json.loads(r.value) for r in decided])]
        letters = [json.loads(record.value)["offset"] for record in dead]
        if letters != sorted(expected.dead):
            wrong.append(f"task {task}: dead letters of {letters}, expected {sorted(expected.dead)}")
        wrong += [f"task {task}: {what}" for what in _journal(shared, task, expected, source)]
    return wrong + judge_states(shared, disks, inputs)


def committed_records(cluster: SimulatedCluster, tp: TopicPartition) -> list[Record]:
    """All records but those of transactions that are not committed."""
    out = []
    for batch in cluster._partition(tp).batches:
        records = batch.records
        if records is None or (batch.transaction is not None and batch.transaction.ending is not Ending.COMMITTED):
            continue
        headers = records.headers or [[] for _ in records.keys]
        for i, (value, header) in enumerate(zip(records.values, headers, strict=True)):
            out.append(Record(batch.base + i, value or b"", records.timestamp_ms, header))
    return out


def _decisions(expected: Expected, found: list[dict[str, Any]]) -> list[str]:
    """I1, I2, I4: one decision a valid offset, in offset order, equal in every field."""
    wrong = []
    if len(found) != len(expected.decisions):
        wrong.append(f"{len(found)} decisions, expected {len(expected.decisions)}")
    for (offset, wanted), got in zip(sorted(expected.decisions.items()), found, strict=False):
        repeated = offset in expected.duplicates
        if got.get("duplicate", False) != repeated or not all(_same(got.get(k), v) for k, v in wanted.items()):
            wrong.append(f"offset {offset}: {got}, expected {wanted}, duplicate {repeated}")
            break
    return wrong


def _same(got: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(got, wanted, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return got == wanted


def _journal(shared: Shared, task: int, expected: Expected, source: list[Record]) -> list[str]:
    """I5, I6: an unbroken chain over all input, once, whose last record the group's offset names; nothing is open."""
    plan, cluster = shared.plan, shared.cluster
    journal = TopicPartition(plan.topics.journal, task)
    wrong: list[str] = []
    chain, at, rejected, duplicates = CHAIN_START, 0, set(), set()
    previous, last = NO_OFFSET, NO_OFFSET
    for number, record in enumerate(committed_records(cluster, journal)):
        entry, body, after = decode_entry(record.headers)
        chain = chain_after(chain, body)
        (wanted,) = entry.ranges
        if (entry.task, entry.sequence, wanted.start, after) != (task, number, at, chain):
            wrong.append(f"journal record {number}: sequence {entry.sequence} from {wanted.start}, expected {at}")
            break
        at = wanted.stop
        previous, last = last, record.offset
        rejected |= {offset for _, offset in entry.rejected}
        duplicates |= {offset for _, offset in entry.duplicates}
        wrong += _rows(number, entry, expected)
    if (rejected, duplicates) != (expected.dead, expected.duplicates):
        wrong.append("the journal's rejects and duplicates are not those of the input")
    tp = TopicPartition(plan.stream.topic, task)
    offset = cluster.group(plan.pipeline).offsets.get(tp)
    end = source[-1].offset + 1 if source else 0
    if source and (offset is None or offset.offset != end or at != end):
        wrong.append(f"the group's offset is {offset}, the journal ends at {at}, the input at {end}")
    if offset is not None and JournalHead.parse(offset.metadata)[1:3] != (chain, previous):
        wrong.append("the group's offset does not name the journal's last record")
    for topic in (plan.topics.decisions, plan.topics.dead_letters, plan.topics.journal):
        if cluster._partition(TopicPartition(topic, task)).open:
            wrong.append(f"{topic} has an open transaction")
    return wrong


def _rows(number: int, entry: JournalEntry, expected: Expected) -> list[str]:
    (wanted,) = entry.ranges
    decided = sum(wanted.start <= offset < wanted.stop for offset in expected.decisions)
    if decided != len(entry.actions):
        return [f"journal record {number} has {len(entry.actions)} actions, expected {decided}"]
    return []
