"""The silent half of the engine: state is brought forward by re-running input, nothing is scored or emitted.

Rejects are obeyed from the journal, never judged again; actions, which later rows may see, come from it too, and which
rows were late. Only
the last transaction is read and computed as it was decided, to compare its digests: `exact` must be equal; `output`,
which floats enter, is compared where it should be (same rules, models and numerics), and a difference is reported.
Before it, only the fields that steps with state read are decoded, and of features only those that such steps read.
"""

from __future__ import annotations

__all__ = ["SilentReplayer", "accepted"]

import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from operators.batch import Column, TaskRows, TaskTick
from operators.block import block_actions
from operators.decode import Decoded, Known, RecordDecoder
from operators.deduplicate import payload_digests
from operators.plan import DIGEST, replay_steps
from operators.schema import StreamSchema
from state.errors import PartitionsChangedError, RecordError, StateCorruptedError
from streamproc.eventlog.contract import Chunk
from streamproc.runtime.deadline import unpacked
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import JournalEntry, Rejected, rejected_of
from streamproc.runtime.rows import Gathered, Rows, TaskInput, without
from streamproc.runtime.union_rows import decode_union

_PIECE_ROWS = 1024
"""Records decoded at once: so many, and what they become, fit a core's cache, which saves a quarter of their time."""
_UNTOLD = ("",)  # the name of no action


class SilentReplayer:
    """Applies journaled input to the state of a task; each call ends published."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._logger = structlog.get_logger("recovery").bind(topic=engine.plan.stream.topic)
        self._silent = replay_steps(engine.plan.steps)
        read = {name for step in self._silent for name in step.inputs}
        self._runs = [
            step.process if any(field.name in read for field in step.outputs) else step.replay for step in self._silent
        ]
        self._decoder = engine.decoder.only({DIGEST, *read})
        self._union = [_Again(decoder.only({DIGEST, *read}), stream) for decoder, stream in engine.decoders]

    def coded(self, entry: JournalEntry, block: bytes) -> JournalEntry:
        """A journal record's entry with its actions by the plan's codes; who had no block decided nothing that is told.

        Raises:
            StateCorruptedError: the block does not say which actions it counts.
        """
        plan = self._engine.plan
        if entry.decision_fingerprint == plan.decision_fingerprint:
            return entry
        names = block_actions(block) if block else _UNTOLD
        return msgspec.structs.replace(entry, actions=plan.decision.actions.read(entry.actions, names))

    def replay(
        self, task: int, chunks: Sequence[Chunk], rejected: Rejected, actions: bytes, tick: int | None = None
    ) -> None:
        """Run journaled records, and the clock tick after them, through the steps that keep state.

        Raises:
            StateCorruptedError: input and journal do not fit together.
        """
        lean = self._lean_union if self._engine.plan.others else self._lean
        whole, gathered = self._gathered(task, chunks)
        rows, digests = lean(task, accepted(whole, rejected), len(actions))
        rows.gathered = gathered
        if tick is not None:
            rows.ticks = (TaskTick(task, tick),)
        if rows.size or rows.ticks or gathered is not None:
            with self._published():
                self._engine.rerun(rows, np.frombuffer(actions, np.uint8), self._runs, digests)

    def replay_last(self, task: int, chunks: Sequence[Chunk], entry: JournalEntry) -> bool:
        """Run one journaled transaction and say whether its `exact` digest comes out equal; `output` is reported on.

        Raises:
            StateCorruptedError: as `replay`.
            PartitionsChangedError: these were decided when the input had another number of partitions.
        """
        whole, gathered = self._gathered(task, chunks)
        kept = accepted(whole, rejected_of([entry]))
        rows = self._engine.read([TaskInput(task, kept[0].tp, kept)] if kept else [])
        rows.gathered = gathered
        if entry.tick is not None:
            rows.ticks = (TaskTick(task, entry.tick),)
        if rows.refused or rows.size != len(entry.actions):
            raise _differs(task)
        if self._engine.is_misplaced(rows):
            raise PartitionsChangedError(f"task {task} has decided records whose keys belong into other partitions now")
        numerics, plan = self._engine.numerics, self._engine.plan
        versions = () if plan.live is None else plan.live.versions
        decided_by = (entry.numerics, entry.decision_fingerprint, entry.tables)
        comparable = decided_by == (numerics, plan.decision_fingerprint, versions)
        coded = np.frombuffer(entry.actions, np.uint8)
        rows.late = unpacked(entry.late, rows.size)
        with self._published():
            exact, output = self._engine.rerun_last(rows, coded, self._silent, decide=comparable)
        logger = self._logger.bind(task=task, sequence=entry.sequence, journal=entry.numerics, here=numerics)
        if entry.numerics != numerics:
            logger.warning("decided by another CPU level or library version: floats may differ in their last digits")
        elif output not in (None, entry.output):
            logger.warning(
                "the last transaction's decisions come out otherwise here, on equal exact state: decided is as it was",
                journal_output=entry.output.hex()[:16], output_here=output.hex()[:16],
            )  # fmt: skip
        return exact == entry.exact

    def _gathered(self, task: int, chunks: Sequence[Chunk]) -> tuple[Sequence[Chunk], Gathered | None]:
        """Whole rows, where they come in parts, and what waits then."""
        if self._engine.plan.gather is None or not chunks:
            return chunks, None
        given, _, gathered = self._engine.gather([TaskInput(task, chunks[0].tp, list(chunks))])
        return given[0].chunks, gathered

    def _lean(self, task: int, chunks: Sequence[Chunk], expected: int) -> tuple[Rows, npt.NDArray[np.int64]]:
        """The records' rows with the columns that matter to state, and the digests of their payloads."""
        values: list[bytes | None] = []
        for chunk in chunks:
            values += chunk.values
        if len(values) != expected:
            raise _differs(task)
        parts: list[Known] = []
        digests: list[npt.NDArray[np.int64]] = []
        for begin in range(0, max(1, len(values)), _PIECE_ROWS):
            piece = values[begin : begin + _PIECE_ROWS]
            known = self._decoder.again(piece)
            if known is None:
                raise _differs(task)
            parts.append(known)
            told = known.columns.get(DIGEST)
            digests.append(payload_digests(piece) if told is None else told.values)
        columns = {name: _joined([part.columns[name] for part in parts]) for name in parts[0].columns}
        unread = np.zeros(len(values), np.int64)  # offsets and log times name refused rows: here are none
        rows = Rows(
            (TaskRows(task, 0, len(values)),) if values else (),
            unread,
            unread,
            values,
            list(chain.from_iterable(part.ids for part in parts)),
            list(chain.from_iterable(part.keys for part in parts)),
            columns[self._engine.plan.stream.event_time].values,
            columns,
            [],
            0,
        )
        return rows, np.concatenate(digests)

    def _lean_union(self, task: int, chunks: Sequence[Chunk], expected: int) -> tuple[Rows, npt.NDArray[np.int64]]:
        """`_lean` where several streams are merged."""
        inputs = [TaskInput(task, chunks[0].tp, list(chunks))] if chunks else []
        try:
            rows = decode_union(self._engine.plan.streams, self._union, inputs)
        except _NotAgainError:
            raise _differs(task) from None
        if rows.size != expected:
            raise _differs(task)
        return rows, rows.digests()

    @contextlib.contextmanager
    def _published(self) -> Iterator[None]:
        """What is run within is published; nothing of it stays if a row fails."""
        try:
            yield
        except RecordError as error:
            self._engine.undo()
            raise StateCorruptedError("a journaled row cannot be computed again") from error
        except BaseException:
            self._engine.undo()
            raise
        self._engine.publish()
        self._engine.make_room()


class _NotAgainError(Exception):
    """A record does not come out as it did."""


class _Again:
    """Decodes one stream's records as `RecordDecoder.again` does, in the shape of `decode`."""

    def __init__(self, decoder: RecordDecoder, stream: StreamSchema) -> None:
        self._decoder, self._time = decoder, stream.event_time

    def decode(self, values: Sequence[bytes | None], _: Sequence[int]) -> Decoded:
        known = self._decoder.again(values)
        if known is None:
            raise _NotAgainError
        times = known.columns[self._time].values
        return Decoded(known.columns, np.arange(len(values)), known.ids, known.keys, times, [], 0)


def accepted(chunks: Sequence[Chunk], rejected: Rejected) -> list[Chunk]:
    """The chunks without the rejected records."""
    if rejected:
        nothing = frozenset[int]()
        bads = [rejected.get(chunk.tp.topic, nothing) for chunk in chunks]
        places = [
            {i for i, offset in enumerate(chunk.offsets) if offset in bad}
            for chunk, bad in zip(chunks, bads, strict=True)
        ]
        chunks = [without(chunk, bad) for chunk, bad in zip(chunks, places, strict=True)]
    return [chunk for chunk in chunks if chunk.offsets]


def _joined(parts: Sequence[Column]) -> Column:
    """One column of several of one type."""
    valid = None
    if any(part.valid is not None for part in parts):
        masks = [np.ones(len(part.values), np.bool_) if part.valid is None else part.valid for part in parts]
        valid = np.concatenate(masks)
    return Column(parts[0].type, np.concatenate([part.values for part in parts]), valid)


def _differs(task: int) -> StateCorruptedError:
    return StateCorruptedError(f"task {task}: the input differs from what the journal says was decided")
