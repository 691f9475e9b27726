"""Step 4: judged rows -> records to append: decisions, side outputs, dead letters, and one journal record a task."""

from __future__ import annotations

__all__ = ["OutputEncoder"]

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from operators.batch import Batch, Emitted
from operators.block import BlockEncoder, BlockRows
from operators.decode import payload_digest
from operators.encode import DecisionEncoder, json_encoder
from operators.handoff import HandedOn, HandoffEncoder
from operators.patterns.timeouts import TimedPatternOperator
from operators.plan import ROUTE, Plan
from operators.schema import DataType, Kind
from operators.statements.encode import StatementEncoder
from operators.timed.alerts import AlertEncoder, Telling
from operators.timed.operator import TimedOperator
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.runtime.deadline import packed
from streamproc.runtime.entries import NO_ROWS, Shared, TaskSpan, digest_of, exact_matrix, repeated, spans_of
from streamproc.runtime.journal import JournalEntry, encode_entry, places_in
from streamproc.runtime.numerics import numerics_fingerprint
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.results import Computed, HandedRows, Judged
from streamproc.runtime.rows import Indices, Refused, TaskInput
from streamproc.runtime.spreading import Spreader

_EXACT = (Kind.INT64, Kind.DECIMAL, Kind.TIMESTAMP, Kind.BOOL)
_JOURNAL_VERSION = 1
_NONE: tuple[Refused, ...] = ()
_NO_BLOCK = b"", hashlib.sha256().digest()

T = TypeVar("T")
U = TypeVar("U")


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
        self._is_silent, self._decides = plan.is_silent, self._handoff is None and not plan.is_silent
        self._spreader = Spreader()
        self.numerics = numerics_fingerprint()
        self._exact = tuple(
            field.name for step in plan.steps if step.tables for field in step.outputs if _is_exact(field.type)
        )

    def prepare(self) -> None:
        """Blocks and what is handed on are made by compiled loops from now on, where these can be made."""
        self._block.prepare()
        self._spreader.prepare()

    def encode(
        self, inputs: Sequence[TaskInput], tasks: Mapping[TopicPartition, PartitionTask], judged: Judged, *,
        now_ms: int, partitions: int,
    ) -> Computed:  # fmt: skip
        """Everything one transaction appends, and where its tasks stand then; `partitions`: of what is handed on."""
        subjects = [] if self._is_silent else judged.rows.subjects(self._plan)
        handed, spans = self._texts(judged, subjects), spans_of(judged)
        exact = self.exact_rows(judged.batch) if judged.merged is None else judged.merged.exact
        shared = Shared.make(judged, exact, spans, handed.texts)
        blocks = {} if self._is_silent else self._blocks(judged, subjects, spans)
        decided = self._decided(judged, subjects, handed.texts) if self._decides else None
        refused, given_up = _by_task(judged.rows.refused), _by_task(judged.all_rows.given_up)
        computed, journal = Computed({}, [], judged), self._plan.topics.journal
        outputs = computed.outputs
        for task_input in inputs:
            task = tasks[task_input.source]
            number, letters = task.task, refused.get(task.task, _NONE)
            block, digest = blocks.get(number, _NO_BLOCK)
            entry = self._entry(task_input, task, shared, letters, digest)
            headers, chain = encode_entry(entry, task.computed.chain)
            if decided is not None and number in spans:
                outputs += decided.of(number, spans[number], now_ms)
            if letters or number in given_up:
                dead = [*letters, *given_up.get(number, _NONE)]
                outputs.append(self._dead_letters(task_input.source, dead, now_ms))
            outputs.append(OutputRecords(TopicPartition(journal, number), [None], [block], now_ms, [headers]))
            computed.heads[task_input.source] = task.head_after(entry.ranges, entry.sequence, chain)
        computed.outputs += self._told(judged, now_ms)
        self._hand_on(computed, handed, partitions, now_ms)
        return computed

    def exact_rows(self, batch: Batch) -> npt.NDArray[np.int64]:
        """What must come out equal on any machine: the exact columns of steps with state, see `exact_matrix`."""
        return exact_matrix([batch.columns[name] for name in self._exact], batch.size)

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
        return digest_of(self.texts(judged).texts)

    # ---- parts

    def texts(self, judged: Judged) -> HandedOn:
        """The JSON of each row, duplicates in their places; no routes where decisions are made; none if silent."""
        return self._texts(judged, [] if self._is_silent else judged.rows.subjects(self._plan))

    def _texts(self, judged: Judged, subjects: list[str]) -> HandedOn:
        """`texts`; of each row, what decisions about it are keyed by."""
        batch, rows = judged.batch, judged.rows
        if self._is_silent:
            return HandedOn([], [])
        if self._handoff is not None and self._plan.handoff is not None:
            return self._handoff.encode(
                rows.ids, rows.columns, batch.columns, fresh=judged.fresh, digests=rows.digests(), values=rows.values,
                arrived=rows.timestamps, places=rows.places() if self._is_fork else (),
            )  # fmt: skip
        if batch.size == rows.size:
            texts = self._decisions.encode(
                rows.ids, subjects, rows.event_time, judged.decided, batch.columns, late=batch.late
            )
            return HandedOn([], texts)
        spread = np.empty(rows.size, np.object_)
        ids, keys = _picked(judged.fresh, rows.ids, subjects)
        spread[judged.fresh] = self._decisions.encode(
            ids, keys, rows.event_time[judged.fresh], judged.decided, batch.columns, late=batch.late
        )
        again = np.flatnonzero(judged.duplicate)
        ids, keys = _picked(again, rows.ids, subjects)
        actions = [self._actions[code] for code in judged.actions[again].tolist()]
        spread[again] = self._decisions.encode_duplicates(ids, keys, rows.event_time[again], actions)
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

    def _hand_on(self, computed: Computed, handed: HandedOn, partitions: int, now_ms: int) -> None:
        """What stages behind this one get of rows, and are told of those that were refused."""
        judged = computed.judged
        if handed.routes and self._plan.handoff is not None:
            rows, has_digests = judged.rows, self._plan.stream.deduplicate_ms > 0
            times, edges = rows.event_time, np.array([(span.start, span.stop) for span in rows.spans], np.int64)
            computed.handed = HandedRows(judged, self._plan.handoff, has_digests, handed.routes, {})
            for target in self.everywhere(judged, handed):
                for output, mine in self._outputs(target, times, edges, partitions, now_ms):
                    computed.outputs.append(output)
                    computed.handed.places[output.tp] = mine
        marks = self.marks(judged)[1]
        if marks.routes:
            as_they_are, edges = np.zeros(len(marks.routes), np.int64), np.array([[0, len(marks.routes)]])
            computed.outputs += [one for one, _ in self._outputs(marks, as_they_are, edges, partitions, now_ms)]

    def _outputs(
        self, handed: HandedOn, times: Indices, edges: Indices, partitions: int, now_ms: int
    ) -> Iterator[tuple[OutputRecords, Indices]]:
        """An output for each partition of the next stage, and which rows are in it; see `Spreader.spread`."""
        keys = list(map(str.encode, handed.routes))
        for partition, mine in self._spreader.spread(keys, times, edges, partitions):
            tp, (names, texts) = TopicPartition(handed.topic, partition), _picked(mine, keys, handed.texts)
            yield OutputRecords(tp, names, texts, now_ms), mine

    def _blocks(
        self, judged: Judged, subjects: list[str], spans: Mapping[int, TaskSpan]
    ) -> dict[int, tuple[bytes, bytes]]:
        """The block of each task that has rows, and its digest."""
        rows, batch = judged.rows, judged.batch
        wanted = [(task, span.first, span.last) for task, span in spans.items() if span.last > span.first]
        if not wanted:
            return {}
        named = BlockRows(rows.ids, subjects, rows.offsets, batch.event_time)
        if batch.size < rows.size:
            ids, keys = _picked(judged.fresh, rows.ids, subjects)
            named = BlockRows(ids, keys, rows.offsets[judged.fresh], batch.event_time)
        arrays = self._block.arrays(named, judged.decided, batch.columns)
        blocks = self._block.encode_all(arrays, np.array([edge[1:] for edge in wanted], np.int64))
        return {task: (block, self._block.digest(block)) for (task, _, _), block in zip(wanted, blocks, strict=True)}

    def _entry(
        self, task_input: TaskInput, task: PartitionTask, shared: Shared, refused: Sequence[Refused], block: bytes
    ) -> JournalEntry:
        """What the transaction did to a task, of whose records those of `refused` were; `block`: the block's digest."""
        number, ranges, rows = task.task, task_input.ranges, shared.of.rows
        span, told = shared.spans.get(number, NO_ROWS), shared.decided.get(number, NO_ROWS)
        (start, stop, first, last), plan = span, self._plan
        rejected = places_in(ranges, sorted((one.topic, one.offset) for one in refused)) if refused else ()
        duplicates = places_in(ranges, repeated(shared.of, span)) if last - first < stop - start else ()
        actions, exact = shared.actions[start:stop], shared.exact[first:last]
        return JournalEntry(
            _JOURNAL_VERSION, number, task.computed.sequence + 1, ranges, rejected, duplicates, actions,
            plan.state_fingerprint, plan.decision_fingerprint, self.numerics,
            self.exact_digest(rows.ids[start:stop], exact, shared.emitted.get(number, ())),
            digest_of(shared.texts[told.start : told.stop]),
            block, task_input.tick,
            b"" if rows.late is None else packed(rows.late, start, stop),
            () if plan.live is None else plan.live.versions,
        )  # fmt: skip

    def _decided(self, judged: Judged, subjects: list[str], texts: list[bytes]) -> _Decisions:
        """Decisions of all tasks, and which rows side outputs get."""
        topics = self._plan.topics
        sides = [(topics.side[name], judged.fresh[hits].tolist()) for name, hits in judged.decided.outputs.items()]
        return _Decisions(topics.decisions, list(map(str.encode, subjects)), texts, sides)

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


class _Decisions(NamedTuple):
    """All tasks' decisions for `topic`, one a row; `sides`: topics that get copies of some, and of which rows."""

    topic: str
    keys: list[bytes]
    texts: list[bytes]
    sides: list[tuple[str, list[int]]]

    def of(self, task: int, span: TaskSpan, now_ms: int) -> list[OutputRecords]:
        """A task's decisions, and the copies that side outputs get."""
        keys, texts = self.keys[span.start : span.stop], self.texts[span.start : span.stop]
        outputs = [OutputRecords(TopicPartition(self.topic, task), keys, texts, now_ms)]
        for topic, rows in self.sides:
            mine = rows[bisect_left(rows, span.start) : bisect_left(rows, span.stop)]
            if mine:
                keys, texts = [self.keys[i] for i in mine], [self.texts[i] for i in mine]
                outputs.append(OutputRecords(TopicPartition(topic, task), keys, texts, now_ms))
        return outputs


def _alert_encoder(plan: Plan) -> AlertEncoder:
    specs = [step.spec for step in plan.timed if isinstance(step, TimedOperator)]
    others = {step.spec.name: step.records for step in plan.timed if isinstance(step, TimedPatternOperator)}
    return AlertEncoder(specs, plan.alerts, others)


def _is_exact(kind: DataType) -> bool:
    return kind.kind in _EXACT


def _by_task(refused: Iterable[Refused]) -> dict[int, list[Refused]]:
    found: dict[int, list[Refused]] = {}
    for letter in refused:
        found.setdefault(letter.task, []).append(letter)
    return found


def _picked(rows: Indices, one: Sequence[T], other: Sequence[U]) -> tuple[list[T], list[U]]:
    """Of two lists the entries of these rows."""
    picked = rows.tolist()
    return [one[i] for i in picked], [other[i] for i in picked]
