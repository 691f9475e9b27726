"""The engine: the plan at work on the records of one transaction. Pure: no log, no clock, no waiting.

    2. decode -> rows                                    rows.py
    3. deduplicate, steps, rules (a row that fails is refused, the batch undone and run again without it)
    4. encode: decisions, dead letters, journal entry and feature block of each task

State changes stay undoable until `publish`; after `seal` one more batch may be computed on top of one in flight.
Worker, backtest and tests run this very code.
"""

from __future__ import annotations

__all__ = ["Engine"]

import itertools
import traceback
from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import structlog

from operators.batch import Batch, TaskTick, narrowed
from operators.decide import RuleDecider
from operators.decode import RecordDecoder
from operators.deduplicate import Deduplicator, DuplicateFlags, record_actions, with_first_actions
from operators.handed_columns import HandedDecoder, HandedLayout
from operators.handoff import HandedOn
from operators.operator import Operator, OperatorContext
from operators.plan import Plan, replay_steps
from operators.schema import StreamSchema
from operators.timed.alerts import Telling
from state.errors import RecordError, StreamprocError
from state.hashing import partitions_of
from state.worker_state import WorkerState
from streamproc.eventlog.contract import TopicPartition
from streamproc.runtime.deadline import late_rows
from streamproc.runtime.gathering import Gatherer
from streamproc.runtime.outputs import OutputEncoder
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.results import (
    AtHand,
    BatchTooBadError,
    BatchTooLargeError,
    Computed,
    Judged,
    Merged,
    check_size,
)
from streamproc.runtime.rows import Condemned, Gathered, Refused, Rows, StreamDecoder, TaskInput, decode_rows, set_aside
from streamproc.runtime.transaction import COMPUTED, Probe
from streamproc.runtime.union_rows import decode_union, each_stream

Rerun = Callable[[Batch, OperatorContext], None]
"""`replay` of a step, or its `process` where a later step of a replay reads what it gives."""

_ASTRAY = "the key's murmur2 hash belongs to another partition: produce with Kafka's default partitioner"
_ATTEMPTS_MAX = 16


class Engine:
    """Executes a plan. `partitions` is the number of the input topic's partitions (0: keys are not checked).

    `condemned` records are refused unread: each has crashed a worker process. `other_deduplicators`: one for each of
    the plan's other streams. `gatherer`: where rows come in parts.
    """

    def __init__(
        self, plan: Plan, state: WorkerState, deduplicator: Deduplicator | None, *, digest_key: bytes,
        pan_key: bytes | None = None, partitions: int = 0, probe: Probe | None = None,
        other_deduplicators: Sequence[Deduplicator | None] = (), gatherer: Gatherer | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.partitions = plan, partitions
        self.condemned: Condemned = frozenset()
        self.decoder = RecordDecoder(plan.stream, pan_key)
        self.other_decoders = [RecordDecoder(stream, pan_key) for stream in plan.others]
        self._state, self._deduplicator = state, deduplicator
        self._deduplicators = (deduplicator, *(other_deduplicators or [None] * len(plan.others)))
        self._deduplicates = any(one is not None for one in self._deduplicators)
        self._first = replay_steps(plan.steps)
        self._rest = tuple(step for step in plan.steps if not any(step is first for first in self._first))
        self._probe, self._gatherer, self._logger = probe, gatherer, structlog.get_logger("engine")
        self._handed = HandedLayout(plan.stream)
        self._decider = RuleDecider(plan.rules, plan.decision)
        self._outputs = OutputEncoder(plan, self._decider.action_names, digest_key)
        self._pan_keyed = plan.stream.field(plan.stream.key).pan
        self._primary = next((table.name for table in plan.tables if table.key == plan.stream.key), None)

    def prepare(self, enough: Callable[[], bool] = lambda: False) -> None:
        """What takes seconds once and makes batches cheaper, part by part until there is `enough`; not on a loop."""
        parts: list[Operator | Deduplicator | OutputEncoder] = [*self.plan.steps, self._outputs]
        parts += filter(None, self._deduplicators)
        for part in itertools.takewhile(lambda _: not enough(), parts):
            part.prepare()

    def compute(
        self, inputs: Sequence[TaskInput], tasks: Mapping[TopicPartition, PartitionTask], now_ms: int,
        at_hand: AtHand | None = None,
    ) -> Computed:  # fmt: skip
        """Steps 2-4 over what was collected; `inputs` in task order. `now_ms` becomes the outputs' record time, and
        deadlines go by it. `at_hand`: what records of the first stream hold, if the stage before made them just now.

        Whatever it raises, the batch has left no trace in the state.
        """
        try:
            return self._compute(inputs, tasks, now_ms, at_hand)
        except BaseException:
            self._state.undo()
            raise

    def _compute(
        self, inputs: Sequence[TaskInput], tasks: Mapping[TopicPartition, PartitionTask], now_ms: int,
        at_hand: AtHand | None,
    ) -> Computed:  # fmt: skip
        self._at(2)
        rows = self.decode(inputs, self.condemned, at_hand)
        if at_hand is None or sum(given.rows for given in inputs) > len(at_hand.order):  # else this worker placed them
            rows = self._in_place(rows)
        rows.late = late_rows(self.plan, rows, now_ms)
        self._at(3)
        judged = self.judge(rows)
        self._at(4)
        try:
            computed = self._encode(inputs, tasks, judged, now_ms)
            check_size(computed, self.plan.topics.journal)
        except (RecordError, BatchTooLargeError) as error:
            self._state.undo()
            rows = judged.all_rows
            if rows.size > 1:
                raise (error if isinstance(error, BatchTooLargeError) else BatchTooBadError()) from error
            reason = error.reason if isinstance(error, RecordError) else "too_large_output"
            judged = self.judge(rows.refuse((0,), reason, ""))
            computed = self._encode(inputs, tasks, judged, now_ms)
        self._at(COMPUTED)
        return computed

    def _encode(
        self, inputs: Sequence[TaskInput], tasks: Mapping[TopicPartition, PartitionTask], judged: Judged, now_ms: int
    ) -> Computed:
        partitions = self.partitions or self.plan.topic_partitions
        return self._outputs.encode(inputs, tasks, judged, now_ms=now_ms, partitions=partitions)

    @property
    def decoders(self) -> list[tuple[RecordDecoder, StreamSchema]]:
        """Of all streams, the one that is decided first."""
        return list(zip((self.decoder, *self.other_decoders), self.plan.streams, strict=True))

    def decode(
        self, inputs: Sequence[TaskInput], condemned: Condemned = frozenset(), at_hand: AtHand | None = None
    ) -> Rows:
        """Step 2: records of `inputs`, of rows in parts the whole ones; bad ones are refused, `condemned` unread."""
        given, strays, gathered = self.gather(inputs)
        given, refused = set_aside(given, condemned) if condemned else (given, [])
        rows = self.read(given, at_hand)
        rows.refused += [*strays, *refused]
        rows.gathered = gathered
        return rows

    def gather(self, inputs: Sequence[TaskInput]) -> tuple[Sequence[TaskInput], Sequence[Refused], Gathered | None]:
        """`inputs` with whole rows in the place of their last parts, records that are no parts, and what waits."""
        return (inputs, (), None) if self._gatherer is None else self._gatherer.look(inputs)

    def read(self, inputs: Sequence[TaskInput], at_hand: AtHand | None = None) -> Rows:
        """`decode` of whole rows."""
        first: StreamDecoder = self.decoder
        if at_hand is not None:
            first = HandedDecoder(self.decoder, self.plan.stream, *at_hand, self._handed)
        if self.plan.others:
            rows = decode_union(self.plan.streams, (first, *self.other_decoders), inputs)
        else:
            rows = decode_rows(first, inputs)
        rows.ticks = tuple(TaskTick(one.task, one.tick) for one in inputs if one.tick is not None)
        return rows

    def judge(self, rows: Rows, attempts_max: int = _ATTEMPTS_MAX) -> Judged:
        """Decide rows. A row that an operator cannot compute is refused; the others are decided without it.

        Raises:
            BatchTooBadError: so many rows fail that this would block the loop.
            StreamprocError: anything but a row's own failure.
        """
        for attempt in itertools.count():
            if attempt > attempts_max and rows.size > attempts_max:
                raise BatchTooBadError
            try:
                return self._run(rows)
            except RecordError as error:
                self._state.undo()
                bad = error.rows or (self._first_bad(rows),)
                rows = rows.refuse(bad, error.reason, error.detail)
            except StreamprocError:
                raise
            except Exception as error:
                self._state.undo()
                place = traceback.extract_tb(error.__traceback__)[-1]  # where, and never with what
                self._logger.error("an operator failed", error=type(error).__name__, at=f"{place.name}:{place.lineno}")
                rows = rows.refuse((self._first_bad(rows),), "operator_failed", type(error).__name__)
        raise AssertionError("attempts are endless")

    def rerun(
        self, rows: Rows, actions: npt.NDArray[np.uint8], runs: Sequence[Rerun], digests: npt.NDArray[np.int64]
    ) -> None:
        """Bring the state forward over journaled rows; `digests` of their payloads."""
        flags, _, batch = self._deduplicate(rows, digests)
        for run in runs:
            run(batch, self._state)
        self._remember(flags, actions)

    def rerun_last(
        self, rows: Rows, actions: npt.NDArray[np.uint8], steps: Sequence[Operator], *, decide: bool
    ) -> tuple[bytes, bytes | None]:
        """As `rerun`, for one task's rows as they were decided; their `exact` digest and, with `decide`, `output`.

        The latter is None if it cannot be computed here: a model that fails is no reason not to restore.
        """
        flags, fresh, batch = self._deduplicate(rows)
        for step in steps:
            step.process(batch, self._state)
        self._remember(flags, actions)
        exact = self._outputs.exact_digest(rows.ids, self._outputs.exact_rows(batch), batch.emitted)
        if not decide:
            return exact, None
        try:
            if rows.streams is not None:
                return exact, self._outputs.output_digest(self._judged_union(rows, flags, fresh, batch, actions))
            for step in self.plan.steps:
                if not any(step is done for done in steps):  # what is left has no state
                    step.process(batch, self._state)
            return exact, self._outputs.output_digest(self._judged(rows, flags, fresh, batch, actions))
        except Exception as error:
            self._logger.warning("the last transaction cannot be decided again here", error=type(error).__name__)
            return exact, None

    def tellings(self, judged: Judged) -> list[Telling]:
        """What timed steps said of judged rows: alerts, and rows that came too late, in row order."""
        return self._outputs.tellings(judged)

    def hand_on(self, judged: Judged) -> HandedOn:
        """What the next stage is given of judged rows, one record a row."""
        return self._outputs.texts(judged)

    def hand_on_everywhere(self, judged: Judged) -> list[HandedOn]:
        """What each of the next stages is given of judged rows, one record a row."""
        return self._outputs.everywhere(judged, self.hand_on(judged))

    def marks(self, judged: Judged) -> tuple[list[int], HandedOn]:
        """See `OutputEncoder.marks`."""
        return self._outputs.marks(judged)

    def waits(self, task: int) -> tuple[int, int] | None:
        """(stream time of a task, the stream time at which a timed step has something due), ms; None: nothing waits."""
        found = [waits for step in self.plan.timed if (waits := step.waits(self._state, task)) is not None]
        return min(found, key=lambda waits: waits[1], default=None)

    @property
    def numerics(self) -> str:
        """This process's numerics fingerprint."""
        return self._outputs.numerics

    def is_misplaced(self, rows: Rows) -> bool:
        """Whether rows that were decided once have keys of other partitions: their number was another one then."""
        if not self.partitions or self._pan_keyed:
            return False
        places = partitions_of([key.encode() for key in rows.keys], self.partitions)
        return any((places[span.start : span.stop] != span.task).any() for span in rows.spans)

    def seal(self) -> None:
        """What was computed is in flight; the next batch may be computed on top of it."""
        self._state.seal()

    def publish(self) -> None:
        """The transaction committed."""
        self._state.publish()

    def make_room(self, *, is_writing: bool = False) -> None:
        """Cold keys leave for the next batch's; to be called after each publish. `is_writing`: a flush; see `evict`."""
        self._state.evict(is_writing=is_writing)

    def undo(self) -> None:
        """Whatever was computed and not published did not happen."""
        self._state.undo_all()

    def _at(self, step: int) -> None:
        if self._probe is not None:
            self._probe(step)

    # ---- 3

    def _run(self, rows: Rows) -> Judged:
        flags, fresh, batch = self._deduplicate(rows)
        try:
            for step in self.plan.steps if rows.streams is None else self._first:
                step.process(batch, self._state)
            judge = self._judged if rows.streams is None else self._judged_union
            judged = judge(rows, flags, fresh, batch)
            judged.statements = self._outputs.statements(judged.ran)
        except RecordError as error:
            raise RecordError(error.reason, error.detail, tuple(fresh[list(error.rows)].tolist())) from error
        self._remember(flags, judged.actions if judged.merged is None else judged.merged.actions)
        return judged

    def _judged_union(
        self, rows: Rows, flags: DuplicateFlags | None, fresh: npt.NDArray[np.int64], batch: Batch,
        actions: npt.NDArray[np.uint8] | None = None,
    ) -> Judged:  # fmt: skip
        """As `_judged`, of rows of several streams: what has no state is run on those that are decided, and only they
        are.
        """
        assert rows.streams is not None
        exact = self._outputs.exact_rows(batch)
        picks = (rows.streams[fresh] == 0).nonzero()[0]
        part = narrowed(batch, picks)
        reused = _reused(flags, fresh[picks])
        try:
            for step in self._rest:
                step.process(part, self._state)
            decided = self._decider.decide(part.columns, part.size, reused)
        except RecordError as error:
            raise RecordError(error.reason, error.detail, tuple(picks[list(error.rows)].tolist())) from error
        if actions is None:
            own = np.zeros(len(fresh), np.uint8)
            own[picks] = decided.action
            actions = own if flags is None else with_first_actions(flags, fresh, own)
        duplicate = np.zeros(rows.size, np.bool_) if flags is None else flags.duplicate
        mine = (rows.streams == 0).nonzero()[0]
        return Judged(
            rows.take(mine), part, np.searchsorted(mine, fresh[picks]), duplicate[mine], decided, actions[mine],
            Merged(rows, fresh, duplicate, actions, exact, batch),
        )  # fmt: skip

    def _judged(
        self, rows: Rows, flags: DuplicateFlags | None, fresh: npt.NDArray[np.int64], batch: Batch,
        actions: npt.NDArray[np.uint8] | None = None,
    ) -> Judged:  # fmt: skip
        """The decisions of a batch whose steps have run; `actions`: those of all rows, if they are known already."""
        reused = _reused(flags, fresh)
        decided = self._decider.decide(batch.columns, batch.size, reused)
        if flags is None or self._deduplicator is None:
            return Judged(rows, batch, fresh, np.zeros(rows.size, np.bool_), decided, decided.action)
        if actions is None:
            actions = with_first_actions(flags, fresh, decided.action)
        return Judged(rows, batch, fresh, flags.duplicate, decided, actions)

    def _deduplicate(
        self, rows: Rows, digests: npt.NDArray[np.int64] | None = None
    ) -> tuple[DuplicateFlags | None, npt.NDArray[np.int64], Batch]:
        """What is known of the ids; the indices of the rows that are no duplicates, and these rows as a batch."""
        if rows.gathered is not None and self._gatherer is not None:
            self._gatherer.apply(rows.gathered)
        if not self._deduplicates:
            return None, np.arange(rows.size), rows.batch()
        digests = rows.digests() if digests is None else digests
        if rows.streams is None and self._deduplicator is not None:
            flags = self._deduplicator.check(rows.spans, rows.ids, digests, rows.event_time)
        else:
            flags = each_stream(self._deduplicators, rows, digests)
        if not np.count_nonzero(flags.duplicate):
            return flags, np.arange(rows.size), rows.batch()
        fresh = np.flatnonzero(~flags.duplicate)
        return flags, fresh, rows.take(fresh).batch()

    def _remember(self, flags: DuplicateFlags | None, actions: npt.NDArray[np.uint8]) -> None:
        """What a repeat of these rows' ids will be told."""
        if flags is not None:
            record_actions(flags, actions)

    def _first_bad(self, rows: Rows) -> int:
        """The first row with which a prefix of the batch fails; every trial is undone."""
        good, bad = 0, rows.size
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                self._run(rows.take(np.arange(middle)))
                good = middle
            except Exception:
                bad = middle
            finally:
                self._state.undo()
        return bad - 1

    def _in_place(self, rows: Rows) -> Rows:
        """Refuse rows whose key does not belong into their partition; a key is looked at when it is first seen."""
        if self.partitions <= 1 or self._pan_keyed:
            return rows
        asked: list[tuple[str, int]] = []  # keys that are new, and the task they came to
        for span in rows.spans:
            known: Container[str] = self._state.table(self._primary).keys_of(span.task) if self._primary else ()
            keys = dict.fromkeys(rows.keys[span.start : span.stop])
            asked += [(key, span.task) for key in keys if key not in known]
        places = partitions_of([key.encode() for key, _ in asked], self.partitions).tolist() if asked else []
        wrong = {one for one, place in zip(asked, places, strict=True) if place != one[1]}
        if not wrong:
            return rows
        astray = [i for s in rows.spans for i in range(s.start, s.stop) if (rows.keys[i], s.task) in wrong]
        return rows.refuse(astray, "wrong_partition", _ASTRAY)


def _reused(flags: DuplicateFlags | None, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.intp] | None:
    """Which of `rows` have an id that came before with another payload; None: none has."""
    return flags.reused[rows].nonzero()[0] if flags is not None and np.count_nonzero(flags.reused) else None
