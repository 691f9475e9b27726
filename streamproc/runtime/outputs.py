"""Step 4: judged rows -> records to append: decisions, side outputs, dead letters, and one journal record a task."""

from __future__ import annotations

__all__ = ["OutputEncoder"]

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from operators.batch import Batch, Emitted, TaskRows
from operators.block import BlockEncoder, BlockRows
from operators.decode import payload_digest
from operators.encode import DecisionEncoder, json_encoder
from operators.handoff import HandedOn, HandoffEncoder
from operators.patterns.timeouts import TimedPatternOperator
from operators.plan import ROUTE, Plan
from operators.record_batches import Prepared
from operators.schema import DataType, Kind
from operators.statements.encode import StatementEncoder
from operators.timed.alerts import AlertEncoder, Telling
from operators.timed.operator import TimedOperator
from state.hashing import partitions_of
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.runtime.deadline import packed
from streamproc.runtime.journal import JournalEntry, RangeOfInput, encode_entry, places_in
from streamproc.runtime.numerics import numerics_fingerprint
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.results import Computed, HandedRows, Judged
from streamproc.runtime.rows import Indices, Refused, Rows, TaskInput

_EXACT = (Kind.INT64, Kind.DECIMAL, Kind.TIMESTAMP, Kind.BOOL)
_JOURNAL_VERSION = 1


class DeadLetter(msgspec.Struct):
    """The JSON of a dead letter: where the record stands, why it was refused; `digest` is keyed."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    digest: str


class OutputEncoder:
    """Encodes what an engine judged."""

    def __init__(self, plan: Plan, action_names: Sequence[str], digest_key: bytes) -> None:
        types = {field.name: field.type for stream in plan.streams for field in stream.fields}
        types |= {field.name: field.type for step in plan.steps for field in step.outputs}
        self._plan = plan
        self._actions = tuple(action_names)
        told = plan if plan.stream.key != ROUTE else replace(plan, stream=replace(plan.stream, key=plan.subject))
        self._decisions = DecisionEncoder(told.stream, plan.decision, types)
        self._block = BlockEncoder(told, action_names)
        self._handoff: HandoffEncoder | None = None
        if plan.handoff is not None:
            stream = plan.stream
            self._handoff = HandoffEncoder(
                plan.handoff, digests=stream.deduplicate_ms > 0, passes=stream.key == ROUTE, named=stream.id,
                event_time=stream.event_time,
            )  # fmt: skip
        self._is_fork = plan.handoff is not None and plan.handoff.placed and plan.handoff.branch is None
        self._alerts = _alert_encoder(plan) if plan.timed or plan.statements else None
        self._statements = StatementEncoder(plan.statements)
        self._digest_key = digest_key
        self.numerics = numerics_fingerprint()
        self._exact = tuple(
            field.name for step in plan.steps if step.tables for field in step.outputs if _is_exact(field.type)
        )

    def encode(
        self, inputs: Sequence[TaskInput], tasks: Mapping[TopicPartition, PartitionTask], judged: Judged, *,
        now_ms: int, partitions: int,
    ) -> Computed:  # fmt: skip
        """Everything one transaction appends, and where its tasks stand then; `partitions`: of what is handed on."""
        silent = self._plan.is_silent
        arrays = None if silent else self._block.arrays(self._named(judged), judged.decided, judged.batch.columns)
        handed = self.texts(judged)
        texts = handed.texts
        merged = judged.merged
        shared = _Shared(judged, texts, arrays, self.exact_rows(judged.batch) if merged is None else merged.exact)
        spans = {span.task: span for span in judged.rows.spans}
        computed = Computed({}, [], judged)
        for task_input in inputs:
            task = tasks[task_input.source]
            span = spans.get(task.task, TaskRows(task.task, 0, 0))
            refused = [letter for letter in judged.rows.refused if letter.task == task.task]
            entry, block = self._entry(task_input, task, shared, span, refused)
            headers, chain = encode_entry(entry, task.computed.chain)
            if span.stop > span.start and self._handoff is None and not silent:
                computed.outputs += self._decided(shared, span, now_ms)
            refused = [*refused, *(letter for letter in judged.all_rows.given_up if letter.task == task.task)]
            if refused:
                computed.outputs.append(self._dead_letters(task_input.source, refused, now_ms))
            journal = TopicPartition(self._plan.topics.journal, task.task)
            computed.outputs.append(OutputRecords(journal, [None], [block], now_ms, [headers]))
            computed.heads[task_input.source] = task.head_after(entry.ranges, entry.sequence, chain)
        computed.outputs += self._told(judged, now_ms)
        if handed.routes and self._plan.handoff is not None:
            order = _in_step(judged.rows)
            has_digests = self._plan.stream.deduplicate_ms > 0
            computed.handed = HandedRows(judged, self._plan.handoff, has_digests, handed.routes, {})
            for target in self.everywhere(judged, handed):
                for output, mine in self._handed_on(target, order, partitions, now_ms):
                    computed.outputs.append(output)
                    computed.handed.places[output.tp] = mine
        marks = self.marks(judged)[1]
        every = np.arange(len(marks.routes))
        computed.outputs += [output for output, _ in self._handed_on(marks, every, partitions, now_ms)]
        return computed

    def exact_rows(self, batch: Batch) -> npt.NDArray[np.int64]:
        """What must come out equal on any machine, int64 (rows, columns): the exact columns of steps with state.

        A NULL is 0 and a bit in one of the last columns (whether a mask exists depends on the batch's other rows).
        """
        count = len(self._exact)
        out = np.zeros((batch.size, count + -(-count // 63)), np.int64)
        for i, name in enumerate(self._exact):
            column = batch.columns[name]
            if column.valid is None:
                out[:, i] = column.values
            else:
                np.multiply(column.values, column.valid, out=out[:, i], casting="unsafe")
                out[:, count + i // 63] |= ~column.valid * np.int64(1 << i % 63)
        return out

    def exact_digest(self, ids: Sequence[str], exact: npt.NDArray[np.int64], emitted: Sequence[Emitted] = ()) -> bytes:
        """The journal's `exact` digest of one task: all its ids, the exact rows of those that are no duplicates, and
        what its timed steps said.
        """
        digest = hashlib.sha256("\n".join(ids).encode("utf-8", "surrogatepass"))
        digest.update(exact.data)
        if emitted and self._alerts is not None:
            digest.update(self._alerts.digest(emitted))
        return digest.digest()

    def output_digest(self, judged: Judged) -> bytes:
        """The journal's `output` digest of rows that are all of one task."""
        return _digest_of(self.texts(judged).texts)

    # ---- parts

    def texts(self, judged: Judged) -> HandedOn:
        """The JSON of each row, duplicates in their places; no routes where decisions are made; none if silent."""
        batch, rows = judged.batch, judged.rows
        if self._plan.is_silent:
            return HandedOn([], [])
        if self._handoff is not None and self._plan.handoff is not None:
            return self._handoff.encode(
                rows.ids, rows.columns, batch.columns, fresh=judged.fresh, digests=rows.digests(), values=rows.values,
                arrived=rows.timestamps, places=rows.places() if self._is_fork else (),
            )  # fmt: skip
        if batch.size == rows.size:
            keys = rows.subjects(self._plan)
            texts = self._decisions.encode(
                rows.ids, keys, rows.event_time, judged.decided, batch.columns, late=batch.late
            )
            return HandedOn([], texts)
        fresh = rows.take(judged.fresh)
        spread = np.empty(rows.size, np.object_)
        spread[judged.fresh] = self._decisions.encode(
            fresh.ids, fresh.subjects(self._plan), fresh.event_time, judged.decided, batch.columns, late=batch.late
        )
        again = np.flatnonzero(judged.duplicate)
        old = rows.take(again)
        actions = [self._actions[code] for code in judged.actions[again].tolist()]
        spread[again] = self._decisions.encode_duplicates(old.ids, old.subjects(self._plan), old.event_time, actions)
        return HandedOn([], spread.tolist())

    def everywhere(self, judged: Judged, handed: HandedOn) -> list[HandedOn]:
        """What is `handed` on, and the same for the other stages that get it."""
        if self._handoff is None:
            return [handed]
        rows = judged.rows
        return [handed, *self._handoff.beside(handed, rows.ids, rows.columns, judged.batch.columns, judged.fresh)]

    def marks(self, judged: Judged) -> tuple[list[int], HandedOn]:
        """What tells the stage behind of rows that were refused here, if it waits for them; and their offsets."""
        sent = self._plan.handoff
        if self._handoff is None or sent is None or sent.branch is None or not judged.rows.refused:
            return [], HandedOn([], [])
        mine = [letter for letter in judged.rows.refused if letter.topic in ("", self._plan.stream.topic)]
        made = [(letter.offset, mark) for letter in mine if (mark := self._handoff.refused(letter.value)) is not None]
        marks = [mark for _, mark in made]
        handed = HandedOn([route for route, _ in marks], [text for _, text in marks], sent.branch.topic)
        return [offset for offset, _ in made], handed

    def _handed_on(
        self, handed: HandedOn, order: Indices, partitions: int, now_ms: int
    ) -> Iterator[tuple[OutputRecords, Indices]]:
        """An output for each partition of the next stage, and which rows are in it; they come in that `order`."""
        keys = list(map(str.encode, handed.routes))
        places = partitions_of(keys, partitions)[order]
        for partition in sorted(set(places.tolist())):
            mine = order[places == partition]
            picked, tp = mine.tolist(), TopicPartition(handed.topic, partition)
            yield OutputRecords(tp, [keys[i] for i in picked], [handed.texts[i] for i in picked], now_ms), mine

    def _named(self, judged: Judged) -> BlockRows:
        """What names the rows of the batch."""
        rows, batch = judged.rows, judged.batch
        keys = rows.subjects(self._plan)
        if batch.size == rows.size:
            return BlockRows(rows.ids, keys, rows.offsets, batch.event_time)
        ids, keys = ([named[i] for i in judged.fresh.tolist()] for named in (rows.ids, keys))
        return BlockRows(ids, keys, rows.offsets[judged.fresh], batch.event_time)

    def _entry(
        self, task_input: TaskInput, task: PartitionTask, shared: _Shared, span: TaskRows, refused: list[Refused]
    ) -> tuple[JournalEntry, bytes]:
        judged = shared.judged
        block = b""
        start, stop = span.start, span.stop
        if judged.batch.size < judged.rows.size:  # there are duplicates
            start, stop = np.searchsorted(judged.fresh, (start, stop)).tolist()
        if stop > start and shared.arrays is not None:
            block = self._block.encode(shared.arrays, start, stop)
        ranges = task_input.ranges
        said = self._said(task.task, shared, span, ranges)
        entry = JournalEntry(
            version=_JOURNAL_VERSION,
            task=task.task,
            sequence=task.computed.sequence + 1,
            ranges=ranges,
            rejected=places_in(ranges, sorted((letter.topic, letter.offset) for letter in refused)),
            duplicates=said.duplicates,
            actions=said.actions,
            state_fingerprint=self._plan.state_fingerprint,
            decision_fingerprint=self._plan.decision_fingerprint,
            numerics=self.numerics,
            exact=said.exact,
            output=_digest_of(shared.texts[span.start : span.stop]),
            block=hashlib.sha256(block).digest(),
            tick=task_input.tick,
            late=said.late,
            tables=() if self._plan.live is None else self._plan.live.versions,
        )
        return entry, block

    def _said(self, task: int, shared: _Shared, span: TaskRows, ranges: Sequence[RangeOfInput]) -> _Said:
        """What the journal says of a task's rows: those of `span`; where several streams are merged, of all of them."""
        judged = shared.judged
        of = judged if judged.merged is None else judged.merged
        rows = of.rows
        if judged.merged is not None:
            span = next((other for other in rows.spans if other.task == task), TaskRows(task, 0, 0))
        start, stop, again = span.start, span.stop, list[tuple[str, int]]()
        if len(of.fresh) < rows.size:  # there are duplicates
            start, stop = np.searchsorted(of.fresh, (start, stop)).tolist()
            mine = span.start + np.flatnonzero(of.duplicate[span.start : span.stop])
            topics = [""] * len(mine) if rows.streams is None else [rows.topics[n] for n in rows.streams[mine].tolist()]
            again = list(zip(topics, rows.offsets[mine].tolist(), strict=True))
        emitted = [one for one in judged.ran.emitted if one.task == task]
        exact = self.exact_digest(rows.ids[span.start : span.stop], shared.exact[start:stop], emitted)
        late = packed(rows.late, span.start, span.stop)
        return _Said(places_in(ranges, again), of.actions[span.start : span.stop].tobytes(), exact, late)

    def _decided(self, shared: _Shared, span: TaskRows, now_ms: int) -> list[OutputRecords]:
        """A task's decisions, and the copies that side outputs get."""
        judged, topics = shared.judged, self._plan.topics
        keys = list(map(str.encode, judged.rows.subjects(self._plan)[span.start : span.stop]))
        texts = shared.texts[span.start : span.stop]
        outputs = [OutputRecords(TopicPartition(topics.decisions, span.task), keys, texts, now_ms)]
        for name, hits in judged.decided.outputs.items():
            places = judged.fresh[hits]
            picked = (places[(places >= span.start) & (places < span.stop)] - span.start).tolist()
            if picked:
                tp = TopicPartition(topics.side[name], span.task)
                outputs.append(OutputRecords(tp, [keys[i] for i in picked], [texts[i] for i in picked], now_ms))
        return outputs

    def tellings(self, judged: Judged) -> list[Telling]:
        """What is told beside decisions: alerts, rows that came too late for them, and rows of statements."""
        ran = judged.ran
        alerts = self._alerts.encode(ran) if self._alerts is not None and ran.emitted else []
        return [*alerts, *judged.statements]

    def statements(self, ran: Batch) -> list[Telling]:
        """The rows of statements, of what the steps with state saw.

        Raises:
            RecordError: an expression fails on a row.
        """
        return self._statements.encode(ran)

    def _told(self, judged: Judged, now_ms: int) -> list[OutputRecords]:
        topics, found = self._plan.topics, dict[TopicPartition, list[Telling]]()
        for telling in self.tellings(judged):
            topic = telling.topic or (topics.late if telling.late else topics.alerts)
            found.setdefault(TopicPartition(topic, telling.task), []).append(telling)
            judged.told[telling.name, telling.what] += 1
        return [
            OutputRecords(tp, [one.key for one in told], [one.text for one in told], now_ms)
            for tp, told in found.items()
        ]

    def _dead_letters(self, source: TopicPartition, refused: list[Refused], now_ms: int) -> OutputRecords:
        values = [
            json_encoder.encode(
                DeadLetter(
                    letter.reason, letter.detail, letter.topic or source.topic, source.partition, letter.offset,
                    letter.timestamp,
                    payload_digest(letter.value, self._digest_key),
                )
            )
            for letter in refused
        ]  # fmt: skip
        tp = TopicPartition(self._plan.topics.dead_letters, source.partition)
        return OutputRecords(tp, [None] * len(values), values, now_ms)


class _Said(NamedTuple):
    """See `JournalEntry`."""

    duplicates: tuple[tuple[int, int], ...]
    actions: bytes
    exact: bytes
    late: bytes


class _Shared(NamedTuple):
    """What all tasks of a transaction share: one text a row; the batch as Arrow's columns and as exact rows. Where
    nothing is said of each row, there are neither texts nor columns.
    """

    judged: Judged
    texts: list[bytes]
    arrays: Prepared | None
    exact: npt.NDArray[np.int64]


def _alert_encoder(plan: Plan) -> AlertEncoder:
    specs = [step.spec for step in plan.timed if isinstance(step, TimedOperator)]
    others = {step.spec.name: step.records for step in plan.timed if isinstance(step, TimedPatternOperator)}
    return AlertEncoder(specs, plan.alerts, others)


def _digest_of(texts: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"\n".join(texts)).digest()


def _is_exact(kind: DataType) -> bool:
    return kind.kind in _EXACT


def _in_step(rows: Rows) -> Indices:
    """The order in which rows of several tasks are handed on: by event time; those of one task stay as they are."""
    times = rows.event_time.copy()
    for span in rows.spans:
        mine = times[span.start : span.stop]
        np.maximum.accumulate(mine, out=mine)
    return np.argsort(times, kind="stable")
