"""What the journal says of each task of a transaction: what its tasks share is made once, and cut."""

from __future__ import annotations

__all__ = ["NO_ROWS", "EntryWriter", "Shared", "TaskSpan", "digest_of", "spans_of"]

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Emitted
from operators.plan import Plan
from streamproc.runtime.deadline import packed
from streamproc.runtime.journal import JournalEntry, places_in
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.results import Judged, Merged
from streamproc.runtime.rows import Refused, TaskInput

_JOURNAL_VERSION = 1

ExactDigest = Callable[[Sequence[str], npt.NDArray[np.int64], Sequence[Emitted]], bytes]
"""See `OutputEncoder.exact_digest`."""


class TaskSpan(NamedTuple):
    """A task's rows, start..stop (exclusive), of which those that repeat none are first..last of all such rows."""

    start: int
    stop: int
    first: int
    last: int


NO_ROWS = TaskSpan(0, 0, 0, 0)


def spans_of(of: Judged | Merged) -> dict[int, TaskSpan]:
    """The rows of each task that has some."""
    spans = of.rows.spans
    if len(of.fresh) == of.rows.size:
        return {task: TaskSpan(start, stop, start, stop) for task, start, stop in spans}
    edges = np.searchsorted(of.fresh, [span[1:] for span in spans]).tolist()
    return {span.task: TaskSpan(span.start, span.stop, *edge) for span, edge in zip(spans, edges, strict=True)}


class Shared(NamedTuple):
    """What all tasks of a transaction share, as the journal tells it: of all streams that enter the stage.

    `exact`: int64 (fresh rows, columns); `actions`: a code a row; `refused` and `emitted`: by task; `texts`, of rows
    that are decided, whose spans are `decided`: one a row, if something is said of each.
    """

    of: Judged | Merged
    spans: Mapping[int, TaskSpan]
    actions: bytes
    exact: npt.NDArray[np.int64]
    emitted: Mapping[int, Sequence[Emitted]]
    decided: Mapping[int, TaskSpan]
    texts: Sequence[bytes]

    @staticmethod
    def make(
        judged: Judged, exact: npt.NDArray[np.int64], decided: Mapping[int, TaskSpan], texts: Sequence[bytes]
    ) -> Shared:
        """Of what was judged."""
        emitted: dict[int, list[Emitted]] = {}
        for one in judged.ran.emitted:
            emitted.setdefault(one.task, []).append(one)
        of = judged if judged.merged is None else judged.merged
        spans = decided if judged.merged is None else spans_of(of)
        return Shared(of, spans, of.actions.tobytes(), exact, emitted, decided, texts)


class EntryWriter:
    """Writes the journal's entries of one plan; `numerics`: this process's fingerprint."""

    def __init__(self, plan: Plan, exact_digest: ExactDigest, numerics: str) -> None:
        self._plan, self._exact_digest, self._numerics = plan, exact_digest, numerics

    def entry(
        self, task_input: TaskInput, task: PartitionTask, shared: Shared, refused: Sequence[Refused], block: bytes
    ) -> JournalEntry:
        """What the transaction did to a task, of whose records those of `refused` were; `block`: the block's digest."""
        number, ranges, rows = task.task, task_input.ranges, shared.of.rows
        span, told = shared.spans.get(number, NO_ROWS), shared.decided.get(number, NO_ROWS)
        again = _again(shared.of, span)
        letters = sorted((letter.topic, letter.offset) for letter in refused) if refused else ()
        return JournalEntry(
            version=_JOURNAL_VERSION,
            task=number,
            sequence=task.computed.sequence + 1,
            ranges=ranges,
            rejected=places_in(ranges, letters) if letters else (),
            duplicates=places_in(ranges, again) if again else (),
            actions=shared.actions[span.start : span.stop],
            state_fingerprint=self._plan.state_fingerprint,
            decision_fingerprint=self._plan.decision_fingerprint,
            numerics=self._numerics,
            exact=self._exact_digest(
                rows.ids[span.start : span.stop], shared.exact[span.first : span.last], shared.emitted.get(number, ())
            ),
            output=digest_of(shared.texts[told.start : told.stop]),
            block=block,
            tick=task_input.tick,
            late=b"" if rows.late is None else packed(rows.late, span.start, span.stop),
            tables=() if self._plan.live is None else self._plan.live.versions,
        )


def digest_of(texts: Sequence[bytes]) -> bytes:
    """The journal's `output` digest of rows' texts."""
    return hashlib.sha256(b"\n".join(texts)).digest()


def _again(of: Judged | Merged, span: TaskSpan) -> list[tuple[str, int]]:
    """(topic, offset) of rows that repeat earlier ones."""
    if span.last - span.first == span.stop - span.start:
        return []
    rows, mine = of.rows, span.start + np.flatnonzero(of.duplicate[span.start : span.stop])
    topics = [""] * len(mine) if rows.streams is None else [rows.topics[n] for n in rows.streams[mine].tolist()]
    return list(zip(topics, rows.offsets[mine].tolist(), strict=True))
