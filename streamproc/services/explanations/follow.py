"""Follows the journal and writes explanations to a topic, keyed by decision and model.

It has no group and no transaction: how far it has come stands in what it has written. A partition of the journal goes
to the same partition of the topic, in order, and each explanation names the journal's record it is from; so a start
reads the topic's end, goes on with that record, and leaves out what is there. Two at a time write the same bytes under
the same keys: readers take either.

A block may name a model that the registry does not give now: its partition waits, all others go on.
"""

from __future__ import annotations

__all__ = ["Follower", "find_decision", "spec_of", "topic_of"]

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import structlog

from models.registry import OutOfReachError
from operators.plan import Plan
from state.errors import StateCorruptedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import Appender, Chunk, EventLog, OutputRecords, TopicPartition, TopicSpec
from streamproc.services.explanations.explain import BlockExplainer, BlockRows, Explanation
from streamproc.services.explanations.metrics import ExplanationMetrics
from streamproc.services.explanations.waiting import AGAIN_S, Stuck, Waiting, rest_of

_POLL_MS = 200
_TAIL = 256
"""Records of the topic's end that are read first, to find where it stopped; more if they hold none."""


def topic_of(plan: Plan) -> str:
    """Where a pipeline's explanations are."""
    return f"{plan.pipeline}.explanations"


def spec_of(plan: Plan, partitions: int) -> TopicSpec:
    """How it is made: of two equal explanations one goes, and all go after the pipeline's `retention:`."""
    return TopicSpec(topic_of(plan), partitions, {**plan.topic_config, "cleanup.policy": "compact,delete"})


class _Made:
    """Explanations of one partition, and when the decisions' blocks were written."""

    def __init__(self, tp: TopicPartition) -> None:
        self.tp = tp
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.decided_ms: list[int] = []
        self.refused = 0

    def add(self, key: bytes, one: Explanation, decided_ms: int) -> None:
        self.keys.append(key)
        self.values.append(msgspec.json.encode(one))
        self.decided_ms.append(decided_ms)
        self.refused += bool(one.refused)


class Follower:
    """Writes the explanations of one pipeline. `written` and `refused` count since the start; `ready`: it follows."""

    def __init__(
        self, plan: Plan, log: EventLog, explainer: BlockExplainer, clock: Clock, metrics: ExplanationMetrics,
        *, everything: bool,
    ) -> None:  # fmt: skip
        """Every decision but `otherwise` (approve, as a rule), or `everything`."""
        self._plan, self._log, self._explainer, self._clock = plan, log, explainer, clock
        self._metrics = metrics
        self._quiet = "" if everything else plan.decision.otherwise
        self._topic = topic_of(plan)
        self._logger = structlog.get_logger("explanations").bind(pipeline=plan.pipeline)
        self._done: dict[int, tuple[int, set[bytes]]] = {}
        self._waiting = Waiting(clock)
        self.written = self.refused = 0
        self.ready = False

    async def run(self, *, until_end: bool) -> None:
        """Follow until cancelled, or to what is the journal's end now.

        Raises:
            EventLogError: the log failed.
            OutOfReachError: `until_end`, and the registry cannot be read: what does not need it is written.
        """
        count = await self._partitions(until_end)
        await self._log.admin().ensure_topics([spec_of(self._plan, count)] if count else [])
        journal = [TopicPartition(self._plan.topics.journal, partition) for partition in range(count)]
        begins, ends = await self._log.admin().begin_offsets(journal), await self._log.admin().end_offsets(journal)
        scanner, appender = self._log.scanner(), self._log.appender()
        try:
            for tp in journal:
                self._done[tp.partition] = await self._end(tp.partition)
                scanner.seek(tp, max(begins[tp], self._done[tp.partition][0]))
            self.ready = True
            while not until_end or any(scanner.position(tp) < ends[tp] for tp in journal if tp not in self._waiting):
                chunks = [chunk for chunk in await scanner.poll(_POLL_MS) if chunk.tp not in self._waiting]
                again = self._waiting.turn()
                if chunks or again:
                    await self._go_on([*again, *chunks], appender)
                if again and again[0].tp not in self._waiting:
                    scanner.seek(again[0].tp, again[-1].next_offset)
            self._waiting.check()
        finally:
            await appender.close()
            await scanner.close()

    async def _write(self, made: Sequence[_Made], appender: Appender) -> None:
        """All at once: a partition's explanations wait for nothing else than their own."""
        outputs = [OutputRecords(one.tp, one.keys, one.values, self._clock.now_ms()) for one in made if one.keys]
        if outputs:
            await appender.append(outputs)
        for one in made:
            self.written += len(one.keys)
            self.refused += one.refused
            self._metrics.wrote(one.decided_ms, one.refused)

    async def _go_on(self, chunks: Sequence[Chunk], appender: Appender) -> None:
        """Explain what can be explained now, and write it; the rest waits."""
        with self._metrics.at_work(min(chunk.timestamps[0] for chunk in chunks)):
            made, stuck = await asyncio.to_thread(self._explained, chunks)  # a model may have to be opened
            await self._write(made, appender)
        for tp, one in stuck.items():
            self._logger.error(
                "explanations wait for the registry", partition=tp.partition, error=one.why.message, again_in_s=AGAIN_S
            )
        self._waiting.add(stuck)
        self._metrics.wait(len(self._waiting), self._waiting.oldest_ms)

    def _explained(self, chunks: Sequence[Chunk]) -> tuple[list[_Made], dict[TopicPartition, Stuck]]:
        """Models are asked about the rows of all blocks at once: one row alone takes as long as twenty."""
        read: list[BlockRows] = []
        decided: dict[tuple[int, int], int] = {}
        stuck: dict[TopicPartition, Stuck] = {}
        for chunk in chunks:
            if chunk.tp in stuck:
                stuck[chunk.tp].chunks.append(chunk)
                continue
            for row, (offset, block, at) in enumerate(zip(chunk.offsets, chunk.values, chunk.timestamps, strict=True)):
                decided[chunk.tp.partition, offset] = at
                try:
                    read += self._read(block or b"", chunk.tp.partition, offset)
                except OutOfReachError as error:
                    stuck[chunk.tp] = Stuck([rest_of(chunk, row)], error)
                    break
        made = {chunk.tp.partition: _Made(self._target(chunk)) for chunk in chunks}
        for one in self._explainer.explain_all(read):
            key, (at, known) = key_of(one), self._done[one.partition]
            if one.at != at or key not in known:  # not written before the last start
                made[one.partition].add(key, one, decided[one.partition, one.at])
        return list(made.values()), stuck

    def _read(self, block: bytes, partition: int, offset: int) -> Sequence[BlockRows]:
        """Of a block: one, or none if it has nothing to explain."""
        if not block:
            return ()
        try:
            return (self._explainer.read(block, partition, offset, lambda _, action: action != self._quiet),)
        except StateCorruptedError as error:
            self._logger.error("a block cannot be explained", partition=partition, offset=offset, error=str(error))
            return ()

    def _target(self, chunk: Chunk) -> TopicPartition:
        return TopicPartition(self._topic, chunk.tp.partition)

    async def _partitions(self, until_end: bool) -> int:
        """Of the journal; it is waited for."""
        while True:
            count = await self._log.admin().partitions(self._plan.topics.journal)
            if count or until_end:
                return count
            await asyncio.sleep(_POLL_MS / 1000)

    async def _end(self, partition: int) -> tuple[int, set[bytes]]:
        """(the journal's record that the topic's last explanations are from, their keys); (0, none): there are none."""
        tp = TopicPartition(self._topic, partition)
        begin = (await self._log.admin().begin_offsets([tp]))[tp]
        end = (await self._log.admin().end_offsets([tp]))[tp]
        tail = _TAIL
        while begin < end:
            start = max(begin, end - tail)
            found: dict[int, set[bytes]] = {}
            await _read(self._log, tp, start, end, partial(_note, into=found))
            first, last = min(found, default=0), max(found, default=0)
            if first < last or (found and start == begin):
                return last, found[last]
            if start == begin:
                break
            tail *= 4  # all of one record: it may have begun before
        return 0, set()


def key_of(one: Explanation) -> bytes:
    """By decision and model."""
    return f"{one.id}:{one.model}".encode()


def _note(chunk: Chunk, into: dict[int, set[bytes]]) -> None:
    for key, value in zip(chunk.keys, chunk.values, strict=True):
        try:
            at = msgspec.json.decode(value or b"", type=_Written).at
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a stranger's
        into.setdefault(at, set()).add(key or b"")


class _Written(msgspec.Struct):
    at: int


async def find_decision(plan: Plan, log: EventLog, explainer: BlockExplainer, decision: str) -> Explanation | None:
    """The newest decision of an id, whatever it was; None: the journal has none.

    It is looked for from the journal's end back, in larger and larger steps: people ask about what is new. Blocks are
    looked through as bytes: an id that is not in them is in none of their rows.

    Raises:
        StateCorruptedError: a block that holds it cannot be read.
        OutOfReachError: the registry cannot be read now.
        EventLogError: the log failed.
    """
    admin, journal = log.admin(), plan.topics.journal
    tps = [TopicPartition(journal, partition) for partition in range(await admin.partitions(journal))]
    begins, ends = await admin.begin_offsets(tps), await admin.end_offsets(tps)
    found: list[tuple[int, Explanation]] = []
    step = _TAIL
    while not found and any(begins[tp] < ends[tp] for tp in tps):
        for tp in tps:
            start = max(begins[tp], ends[tp] - step)
            if start < ends[tp]:
                look = partial(_look, explainer=explainer, decision=decision, stop=ends[tp], found=found)
                await _read(log, tp, start, ends[tp], look)
            ends[tp] = min(start, ends[tp])
        step *= 4
    return max(found, key=lambda one: one[0])[1] if found else None


def _look(
    chunk: Chunk, *, explainer: BlockExplainer, decision: str, stop: int, found: list[tuple[int, Explanation]]
) -> None:
    """Add the decisions of an id with the times of their records; those from `stop` on were looked at before."""
    wanted = decision.encode()
    for offset, block, at in zip(chunk.offsets, chunk.values, chunk.timestamps, strict=True):
        if block and offset < stop and wanted in block:
            made = explainer.explain(block, chunk.tp.partition, offset, lambda one, _: one == decision)
            found += [(at, one) for one in made]


async def _read(log: EventLog, tp: TopicPartition, start: int, end: int, take: Callable[[Chunk], None]) -> None:
    scanner = log.scanner()
    scanner.seek(tp, start)
    try:
        while scanner.position(tp) < end:
            for chunk in await scanner.poll(_POLL_MS):
                await asyncio.to_thread(take, chunk)
    finally:
        await scanner.close()
