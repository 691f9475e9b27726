"""What came out, judged by its own read_committed reader against a sequential, fault-free run (I1-I7)."""

from __future__ import annotations

__all__ = ["judge"]

import json
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

from operators.plan import Plan
from state.memory import MemoryDisk
from streamproc.eventlog.contract import NO_OFFSET, TopicPartition
from streamproc.runtime.journal import CHAIN_START, JournalEntry, JournalHead, chain_after, decode_entry
from tests.oracle.card_job import Expected
from tests.oracle.limits import answer
from tests.simulation.calls import without_answers
from tests.simulation.committed import Record, committed_records
from tests.simulation.decided import judge_decisions
from tests.simulation.handed_on import expect_stage, judge_handoff, judge_refusals
from tests.simulation.late import judge_bits, judge_late
from tests.simulation.parts import whole_rows
from tests.simulation.pod import Shared
from tests.simulation.states import judge_states


def judge(shared: Shared, disks: Sequence[MemoryDisk]) -> list[str]:
    """What is wrong, in the log and on the `disks`. Nothing must be running any more."""
    wrong: list[str] = []
    read = [_source(shared, plan.stream.topic) for plan in shared.plans]
    for number, (plan, sources) in enumerate(zip(shared.plans, read, strict=True)):
        versions = {task: shared.limits.versions(shared.cluster, plan, task) for task in sources}
        rows = {task: whole_rows(plan, records) for task, records in sources.items()}
        expected = {task: expect_stage(plan, number, records) for task, records in rows.items()}
        late = {task: set[int]() for task in sources}
        for task, records in sources.items():
            told = _dead_letters(shared, plan, task, expected[task])
            if plan.handoff is None:
                told += shared.limits.judge(plan, versions[task])
                called, limit = "call" in shared.scenario.more, partial(shared.limits.of, versions[task])
                answer(expected[task], rows[task], limit, called=called)
                shared.reached["tables changed under decisions"] += len({by for _, by in versions[task]} - {-1}) > 1
                decided = committed_records(shared.cluster, TopicPartition(plan.topics.decisions, task))
                late[task] = judge_late(plan, number, expected[task], rows[task], decided)
                told += judge_decisions(expected[task], decided, "device_id" if number else "card_id")
                told += _covered(shared, plan, task, decided) + _copies(shared, plan, task, decided)
            told += _journal(shared, plan, task, expected[task], records, late=late[task])
            wrong += [f"{shared.name(plan)} {task}: {what}" for what in told]
        if plan.handoff is not None:
            for following, records_by_task in zip(shared.plans, read, strict=True):
                if following.entrance in plan.handoff.topics:
                    found, said = without_answers(following, records_by_task)
                    wrong += said + judge_handoff(
                        plan, following, number, sources=rows, expected=expected, found=found
                    )  # fmt: skip
            wrong += _refusals(shared, plan, read, rows, expected)
        elif number:
            wrong += [f"{plan.stage} {task}: refuses {one.dead}" for task, one in expected.items() if one.dead]
        wrong += judge_states(shared, number, disks, sources, late, versions)
    return wrong


def _refusals(
    shared: Shared, plan: Plan, read: Sequence[Mapping[int, list[Record]]], rows: Mapping[int, Sequence[Record]],
    expected: Mapping[int, Expected],
) -> list[str]:  # fmt: skip
    """Of a stage within a branch: what it tells those who wait for its rows."""
    assert plan.handoff is not None
    branch = plan.handoff.branch
    if branch is None or plan.handoff.part is not None:
        return []
    by_stage = {one.stage: (one, sources) for one, sources in zip(shared.plans, read, strict=True)}
    gathering, found = next(one for one in by_stage.values() if one[0].stream.topic == branch.topic)
    assert gathering.gather is not None
    _, last = by_stage[gathering.gather.parts[branch.number]]
    return judge_refusals(plan, gathering.stage, sources=rows, expected=expected, found=found, last=last)


def _source(shared: Shared, topic: str) -> dict[int, list[Record]]:
    tasks = range(shared.scenario.partitions)
    return {task: committed_records(shared.cluster, TopicPartition(topic, task)) for task in tasks}


def _found(shared: Shared, topic: str, task: int) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in committed_records(shared.cluster, TopicPartition(topic, task))]


def _dead_letters(shared: Shared, plan: Plan, task: int, expected: Expected) -> list[str]:
    """I1: one for each refused record of the task, in order; all stages share the topic."""
    letters = _found(shared, plan.topics.dead_letters, task)
    mine = [letter["offset"] for letter in letters if letter["topic"] == plan.stream.topic]
    wrong = [] if mine == sorted(expected.dead) else [f"dead letters of {mine}, expected {sorted(expected.dead)}"]
    if {letter["topic"] for letter in letters} - {known.stream.topic for known in shared.plans}:
        wrong.append("dead letters of another topic")
    return wrong


def _covered(shared: Shared, plan: Plan, task: int, decided: Sequence[Record]) -> list[str]:
    """I7: the journal's records account for the decisions one by one: their bytes, their actions, their features."""
    at = 0
    for number, record in enumerate(committed_records(shared.cluster, TopicPartition(plan.topics.journal, task))):
        entry, _, _ = decode_entry(record.headers)
        mine = [one.value for one in decided[at : at + len(entry.actions)]]
        at += len(entry.actions)
        said = [plan.decision.severity[code] for code in entry.actions]
        digests = sha256(b"\n".join(mine)).digest(), sha256(record.value).digest()
        if (entry.output, entry.block) != digests or said != [json.loads(value)["decision"] for value in mine]:
            return [f"journal record {number} is not of the decisions that it covers"]
    return [] if at == len(decided) else [f"the journal covers {at} decisions of {len(decided)}"]


def _copies(shared: Shared, plan: Plan, task: int, decided: Sequence[Record]) -> list[str]:
    """I1, I2: a side output has a copy of each decision that one of its rules made, once, in order."""
    wrong = []
    for name, topic in plan.topics.side.items():
        rules = {rule.id for rule in plan.rules if rule.to == name}
        wanted = [(one.key, one.value) for one in decided if rules & {*json.loads(one.value)["reasons"]}]
        found = [(one.key, one.value) for one in committed_records(shared.cluster, TopicPartition(topic, task))]
        shared.reached["copies"] += len(wanted)
        if found != wanted:
            wrong.append(f"{name} has {len(found)} decisions, expected {len(wanted)}, or others")
    return wrong


def _journal(
    shared: Shared, plan: Plan, task: int, expected: Expected, source: list[Record], *, late: set[int]
) -> list[str]:
    """I5, I6: an unbroken chain over all input, once, whose last record the group's offset names; nothing is open."""
    cluster = shared.cluster
    journal = TopicPartition(plan.topics.journal, task)
    wrong: list[str] = []
    chain, at, rejected, duplicates = CHAIN_START, 0, set(), set()
    previous, last = NO_OFFSET, NO_OFFSET
    for number, record in enumerate(committed_records(cluster, journal)):
        entry, body, after = decode_entry(record.headers)
        chain = chain_after(chain, body)
        (wanted,) = entry.ranges
        left_out = any(at <= one.offset < wanted.start for one in source)
        stands = (entry.task, entry.sequence, wanted.topic, after) == (task, number, plan.stream.topic, chain)
        if not stands or wanted.start < at or left_out:
            wrong.append(f"journal record {number}: sequence {entry.sequence} from {wanted.start}, expected {at}")
            break
        at = wanted.stop
        previous, last = last, record.offset
        rejected |= {offset for _, offset in entry.rejected}
        duplicates |= {offset for _, offset in entry.duplicates}
        wrong += _rows(number, entry, expected) + judge_bits(number, entry, expected, late)
    if (rejected, duplicates) != (expected.dead, expected.duplicates):
        wrong.append("the journal's rejects and duplicates are not those of the input")
    tp = TopicPartition(plan.stream.topic, task)
    offset = cluster.group(shared.pipeline).offsets.get(tp)
    end = source[-1].offset + 1 if source else 0
    if source and (offset is None or offset.offset != at or not end <= at <= cluster.end_offset(tp)):
        wrong.append(f"the group's offset is {offset}, the journal ends at {at}, the input at {end}")
    if offset is not None and JournalHead.parse(offset.metadata)[1:3] != (chain, previous):
        wrong.append("the group's offset does not name the journal's last record")
    called = [call.source for call in plan.calls]
    for topic in (*called, plan.stream.topic, plan.topics.decisions, plan.topics.dead_letters, plan.topics.journal):
        if cluster._partition(TopicPartition(topic, task)).open:
            wrong.append(f"{topic} has an open transaction")
    return wrong


def _rows(number: int, entry: JournalEntry, expected: Expected) -> list[str]:
    (wanted,) = entry.ranges
    decided = sum(wanted.start <= offset < wanted.stop for offset in expected.decisions)
    if decided != len(entry.actions):
        return [f"journal record {number} has {len(entry.actions)} actions, expected {decided}"]
    return []
