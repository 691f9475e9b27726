"""A new generation of a pipeline on repartitioned state: where the old one ends in the log, where the new one begins.

The old one must have decided all of its input. The new one has a name and topics of its own; one transaction makes it:
in each journal of each of its stages a first record, of sequence 1 and without input, and the group's offsets that name
it. From then on it is a pipeline like any other whose state stands at that record. Since no journal begins at sequence
0, no restore can start empty: without the state, or a checkpoint of it, it is refused (`recovery._check_link`).

An attempt that was killed can be made again under the same name. Its transaction is ended first: if it had not
committed, nothing has begun, though its records, which nobody reads, have taken offsets; if it had, nothing is left
to do, and the first records, made of the old journals' ends, tell so.
"""

from __future__ import annotations

__all__ = ["Beginning", "Ending", "begin_generation", "end_of_generation", "plan_generation"]

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from operators.plan import Plan
from state.errors import ConfigError, EventLogError
from streamproc.clock import Clock
from streamproc.eventlog.contract import (
    NO_OFFSET,
    Chunk,
    CommittedOffset,
    EventLog,
    Headers,
    OutputRecords,
    TopicPartition,
)
from streamproc.runtime.assignment import Assignment
from streamproc.runtime.journal import JournalEntry, JournalHead, RangeOfInput, decode_entry, encode_entry
from streamproc.runtime.numerics import numerics_fingerprint
from streamproc.runtime.reading import POLL_MS, Silence
from streamproc.runtime.stored_state import LocalMeta
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.transaction import TransactionProtocol

_FIRST = 1
_JOIN_SECONDS = 60.0


class Ending(NamedTuple):
    """Where a task of the old generation ends: its position and its journal's head."""

    position: int
    head: JournalHead


class Beginning(NamedTuple):
    """Where a task of the new one begins: what its state's meta row says, and the journal record that says so."""

    source: TopicPartition
    journal: TopicPartition
    meta: LocalMeta
    headers: Headers


async def end_of_generation(log: EventLog, plan: Plan) -> tuple[int, dict[int, Ending]]:
    """The number of partitions of the old input of a stage, and the tasks that ever decided a record.

    Raises:
        ConfigError: there is no such topic, or some of its records are not decided.
    """
    topic, admin = plan.stream.topic, log.admin()
    partitions = await admin.partitions(topic)
    if not partitions:
        raise ConfigError(f"the log has no topic {topic}", hint="give the pipeline as it ran, and its log")
    for call in plan.calls:  # rows on their way to a service
        await _all_committed(log, call.group, call.source, partitions)
    committed = await _all_committed(log, plan.pipeline, topic, partitions)
    if not committed:
        raise ConfigError(f"pipeline {plan.home} has decided nothing yet", hint="just `run` the new one")
    heads = {tp.partition: Ending(found.offset, JournalHead.parse(found.metadata)) for tp, found in committed.items()}
    return partitions, heads


async def _all_committed(
    log: EventLog, group: str, topic: str, partitions: int
) -> Mapping[TopicPartition, CommittedOffset]:
    """What the group has committed: all there is.

    Raises:
        ConfigError: it is not.
    """
    sources, admin = [TopicPartition(topic, p) for p in range(partitions)], log.admin()
    committed = await admin.committed(group, sources)
    begins, ends = await admin.begin_offsets(sources), await admin.end_offsets(sources)
    for source in sources:
        position = committed[source].offset if source in committed else begins[source]
        await _refuse_undecided(log, source, position, ends[source])
    return committed


async def _refuse_undecided(log: EventLog, source: TopicPartition, position: int, end: int) -> None:
    """Offsets up to the end may be of no record (transactions' marks), so it has to be read."""
    undecided = await _first_records(log, source, position, end)
    if undecided is not None:
        raise ConfigError(
            f"{source.topic}[{source.partition}] has records from offset {undecided.offsets[0]} on that are "
            "not decided yet",
            hint="stop its producers, and `run` the old pipeline with --until-end first",
        )


async def _first_records(log: EventLog, tp: TopicPartition, begin: int, end: int) -> Chunk | None:
    """The first committed records between two offsets; None: there are none."""
    scanner, silence = log.scanner(), Silence(tp)
    try:
        scanner.seek(tp, begin)
        while scanner.position(tp) < end:
            chunks = await scanner.poll(POLL_MS)
            silence.check(chunks)
            if chunks:
                return chunks[0]
    finally:
        await scanner.close()
    return None


async def plan_generation(
    log: EventLog, plans: Sequence[Plan], endings: Sequence[Mapping[int, Ending]], clock: Clock
) -> list[list[Beginning]]:
    """Makes the new topics, and says where each new task of each stage begins.

    Raises:
        ConfigError: the pipeline has begun already, or its topics do not fit together.
    """
    partitions = await prepare_topics(log, *plans)
    await _end_attempt(log, plans[0], clock)  # else what it leaves would move the journals' ends later
    looks = [await _begun(log, plan, ended, partitions) for plan, ended in zip(plans, endings, strict=True)]
    if any(looks):
        raise _has_begun(plans[0], made=all(look is _MADE for look in looks))
    return [await _beginnings(log, plan, ended, partitions) for plan, ended in zip(plans, endings, strict=True)]


def _before(endings: Mapping[int, Ending]) -> bytes:
    """Of all old journals' heads: the new chains go on from there."""
    return hashlib.sha256(b"".join(endings[task].head.chain for task in sorted(endings))).digest()


_MADE, _OTHERWISE = "of these endings", "otherwise"


async def _begun(log: EventLog, plan: Plan, endings: Mapping[int, Ending], partitions: int) -> str | None:
    """How a stage has begun already; None: it has not."""
    admin, before = log.admin(), _before(endings)
    sources = [TopicPartition(plan.stream.topic, p) for p in range(partitions)]
    journals = [TopicPartition(plan.topics.journal, p) for p in range(partitions)]
    begins, ends = await admin.begin_offsets(journals), await admin.end_offsets(journals)
    firsts = [await _first_records(log, tp, begins[tp], ends[tp]) for tp in journals]
    if not any(firsts) and not await admin.committed(plan.pipeline, sources):
        return None
    made = all(first is not None and _is_made_of(before, first) for first in firsts)
    return _MADE if made else _OTHERWISE


async def _beginnings(log: EventLog, plan: Plan, endings: Mapping[int, Ending], partitions: int) -> list[Beginning]:
    before, admin, found = _before(endings), log.admin(), []
    sources = [TopicPartition(plan.stream.topic, p) for p in range(partitions)]
    journals = [TopicPartition(plan.topics.journal, p) for p in range(partitions)]
    begins, ends = await admin.begin_offsets(sources), await admin.end_offsets(journals)
    for source, journal in zip(sources, journals, strict=True):
        entry = _first_entry(plan, source, begins[source], before)
        headers, chain = encode_entry(entry, before)
        meta = LocalMeta(_FIRST, chain, ends[journal], begins[source], plan.state_fingerprint, partitions)
        found.append(Beginning(source, journal, meta, headers))
    return found


async def _end_attempt(log: EventLog, plan: Plan, clock: Clock) -> None:
    """Whatever an attempt that was killed left open is committed or aborted by whoever takes its identity over."""
    protocol = TransactionProtocol(lambda: log.writer(_identity(plan)), clock)
    try:
        await protocol.open()
    finally:
        await protocol.close()


def _identity(plan: Plan) -> str:
    return f"{plan.pipeline}-repartition-0"


def _is_made_of(before: bytes, first: Chunk) -> bool:
    entry, _, _ = decode_entry(first.headers[0] if first.headers else [])
    return entry.sequence == _FIRST and entry.exact == before


def _has_begun(plan: Plan, *, made: bool) -> ConfigError:
    if made:
        return ConfigError(
            f"pipeline {plan.pipeline} has begun already, on this very state of the old one",
            hint="nothing is left to do: `run` it, with this --state or these --checkpoints",
        )
    return ConfigError(f"pipeline {plan.pipeline} has begun already", hint="the new one needs a name of its own")


def _first_entry(plan: Plan, source: TopicPartition, position: int, before: bytes) -> JournalEntry:
    """Of no input; `before`: see `_before`."""
    nothing = hashlib.sha256(b"").digest()
    return JournalEntry(
        version=1, task=source.partition, sequence=_FIRST, ranges=(RangeOfInput(source.topic, position, position),),
        rejected=(), duplicates=(), actions=b"", state_fingerprint=plan.state_fingerprint,
        decision_fingerprint=plan.decision_fingerprint, numerics=numerics_fingerprint(),
        exact=before, output=nothing, block=nothing,
    )  # fmt: skip


async def begin_generation(log: EventLog, plans: Sequence[Plan], beginnings: Sequence[Beginning], clock: Clock) -> None:
    """One transaction: the journals' first records of all stages, and the offsets that name them.

    Raises:
        EventLogError: it did not happen, or nobody knows: the same again from the start finds out.
    """
    name, pipeline = _identity(plans[0]), plans[0].pipeline
    assignment = Assignment(asyncio.Lock())
    sources = [plan.stream.topic for plan in plans]
    reader = log.reader(pipeline, sources, assignment, instance=name, index=0, count=1)
    protocol = TransactionProtocol(lambda: log.writer(name), clock)
    partitions = len({b.source.partition for b in beginnings})
    offsets = {
        b.source: CommittedOffset(
            b.meta.position, JournalHead(_FIRST, b.meta.chain, NO_OFFSET, partitions=partitions).text()
        )
        for b in beginnings
    }
    try:
        await protocol.open()
        await reader.start()
        deadline = clock.monotonic() + _JOIN_SECONDS
        while assignment.partitions != offsets.keys() or assignment.membership is None:
            await reader.poll(POLL_MS)
            if clock.monotonic() > deadline:
                raise EventLogError(f"a worker of pipeline {pipeline} runs already: not all partitions are free")
        now = clock.now_ms()
        outputs = [OutputRecords(b.journal, [None], [b""], now, [b.headers]) for b in beginnings]
        ends = await protocol.run(outputs, offsets, assignment.membership)
        if any(ends[b.journal] != b.meta.journal_offset for b in beginnings):
            raise EventLogError(f"another process has written to the journal of {pipeline}: remove its state")
    finally:
        await protocol.close()
        await reader.close(leave=True)
