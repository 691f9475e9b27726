"""The silent half of the engine: state is brought forward by re-running input, nothing is scored or emitted.

Rejects are obeyed from the journal, never judged again; actions, which later rows may see, come from it too. Only
the last transaction is read and computed as it was decided, to compare its digest. Before it, only the fields that
steps with state read are decoded, and those steps compute no features.
"""

from __future__ import annotations

__all__ = ["SilentReplayer"]

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from operators.batch import Column, TaskRows
from operators.decode import Known
from operators.deduplicate import payload_digests
from operators.plan import replay_steps
from state.errors import RecordError, StateCorruptedError
from streamproc.eventlog.contract import Chunk
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import JournalEntry
from streamproc.runtime.rows import Rows, TaskInput, decode_rows, without

_PIECE_ROWS = 1024
"""Records decoded at once: so many, and what they become, fit a core's cache, which saves a quarter of their time."""


class SilentReplayer:
    """Applies journaled input to the state of a task; each call ends published."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._silent = replay_steps(engine.plan.steps)
        self._decoder = engine.decoder.only({name for step in self._silent for name in step.inputs})

    def replay(self, task: int, chunks: Sequence[Chunk], rejected: frozenset[int], actions: bytes) -> None:
        """Run journaled records through the steps that keep state.

        Raises:
            StateCorruptedError: input and journal do not fit together.
        """
        rows, digests = self._lean(task, _accepted(chunks, rejected), len(actions))
        if rows.size:
            self._rerun(rows, actions, whole=False, digests=digests)

    def replay_last(self, task: int, chunks: Sequence[Chunk], entry: JournalEntry) -> bool:
        """Run one journaled transaction and say whether its `exact` digest comes out equal."""
        kept = _accepted(chunks, frozenset(offset for _, offset in entry.rejected))
        rows = decode_rows(self._engine.decoder, [TaskInput(task, kept[0].tp, kept)] if kept else [])
        if rows.refused or rows.size != len(entry.actions):
            raise _differs(task)
        return self._rerun(rows, entry.actions, whole=True) == entry.exact

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
            digests.append(payload_digests(piece))
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

    def _rerun(self, rows: Rows, actions: bytes, *, whole: bool, digests: npt.NDArray[np.int64] | None = None) -> bytes:
        try:
            coded = np.frombuffer(actions, np.uint8)
            digest = self._engine.rerun(rows, coded, self._silent, whole=whole, digests=digests)
        except RecordError as error:
            self._engine.undo()
            raise StateCorruptedError("a journaled row cannot be computed again") from error
        except BaseException:
            self._engine.undo()
            raise
        self._engine.publish()
        return digest


def _accepted(chunks: Sequence[Chunk], rejected: frozenset[int]) -> list[Chunk]:
    """The chunks without the rejected records."""
    if rejected:
        places = [{i for i, offset in enumerate(chunk.offsets) if offset in rejected} for chunk in chunks]
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
