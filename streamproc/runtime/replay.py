"""The silent half of the engine: state is brought forward by re-running input, nothing is scored or emitted.

Rejects are obeyed from the journal, never judged again; actions, which later rows may see, come from it too.
"""

from __future__ import annotations

__all__ = ["SilentReplayer"]

from collections.abc import Sequence

import numpy as np

from operators.plan import replay_steps
from state.errors import RecordError, StateCorruptedError
from streamproc.eventlog.contract import Chunk
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import JournalEntry
from streamproc.runtime.rows import Rows, TaskInput, decode_rows, without


class SilentReplayer:
    """Applies journaled input to the state of a task; each call ends published."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._silent = replay_steps(engine.plan.steps)

    def replay(self, task: int, chunks: Sequence[Chunk], rejected: frozenset[int], actions: bytes) -> None:
        """Run journaled records through the steps that keep state.

        Raises:
            StateCorruptedError: input and journal do not fit together.
        """
        rows = self._rows(task, chunks, rejected, len(actions))
        if rows.size:
            self._rerun(rows, actions, whole=False)

    def replay_last(self, task: int, chunks: Sequence[Chunk], entry: JournalEntry) -> bool:
        """Run one journaled transaction and say whether its `exact` digest comes out equal."""
        rejected = frozenset(offset for _, offset in entry.rejected)
        rows = self._rows(task, chunks, rejected, len(entry.actions))
        return self._rerun(rows, entry.actions, whole=True) == entry.exact

    def _rows(self, task: int, chunks: Sequence[Chunk], rejected: frozenset[int], expected: int) -> Rows:
        kept = list(chunks)
        if rejected:
            places = [{i for i, offset in enumerate(chunk.offsets) if offset in rejected} for chunk in chunks]
            kept = [without(chunk, bad) for chunk, bad in zip(chunks, places, strict=True)]
        kept = [chunk for chunk in kept if chunk.offsets]
        if not kept:
            rows = decode_rows(self._engine.decoder, [])
        else:
            rows = decode_rows(self._engine.decoder, [TaskInput(task, kept[0].tp, kept)])
        if rows.refused or rows.size != expected:
            raise StateCorruptedError(f"task {task}: the input differs from what the journal says was decided")
        return rows

    def _rerun(self, rows: Rows, actions: bytes, *, whole: bool) -> bytes:
        try:
            digest = self._engine.rerun(rows, np.frombuffer(actions, np.uint8), self._silent, whole=whole)
        except RecordError as error:
            self._engine.undo()
            raise StateCorruptedError("a journaled row cannot be computed again") from error
        self._engine.publish()
        return digest
