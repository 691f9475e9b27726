"""Rows that come in parts, of stages beside each other: whole once the last part is there, in the order of that.

What waits is state of the task (`state/held.py`). A batch is looked at first, which changes nothing; what it does to
what waits is applied with the batch, as often as that is computed, and undone with it. A replay that reads the same
records comes to the same, however it is cut: a row is given up by the log's times of the records alone.

    merchant's part of p1, device's of p2, device's of p1, merchant's of p2   ->   p1, p2

A part that says its stage has refused the row (there is a dead letter of it) makes an end of the other parts too.
What waits for longer than `wait_ms` is a dead letter once, `part_missing`; what comes of such a row later is dropped.
"""

from __future__ import annotations

__all__ = ["Gatherer"]

from collections.abc import Sequence

from operators.handoff import RowPart, read_part, united
from operators.plan import GatherSpec
from state.held import Changes, Held, HeldRows
from streamproc.eventlog.contract import Chunk
from streamproc.runtime.rows import Gathered, Refused, TaskInput

_GRAINS = 16
"""What waits too long is looked for so often within the time that it may wait."""
_GONE = b""
"""In the place of a part: the row is not to be."""


class Gatherer:
    """Puts the rows of `topic` together; `held`: those that wait, which only it changes."""

    def __init__(self, topic: str, spec: GatherSpec, held: HeldRows) -> None:
        self._topic, self._spec, self._held = topic, spec, held

    def look(self, inputs: Sequence[TaskInput]) -> tuple[list[TaskInput], list[Refused], Gathered]:
        """See `Engine.gather`."""
        out, strays = list[TaskInput](), list[Refused]()
        changes, given_up = dict[int, Changes](), list[Refused]()
        for given in inputs:
            look = _Look(given.task, self._topic, self._spec, self._held)
            chunks = [look.whole(chunk) if chunk.tp.topic == self._topic else chunk for chunk in given.chunks]
            out.append(TaskInput(given.task, given.source, chunks, given.tick))
            changes[given.task] = Changes(look.changed, look.clock)
            strays += look.strays
            given_up += look.given_up
        return out, strays, Gathered(changes, given_up)

    def apply(self, gathered: Gathered) -> None:
        """What a batch does to what waits."""
        for task, changes in gathered.changes.items():
            self._held.apply(task, changes)


class _Look:
    """One task's share of a batch. `changed`: rows as they are after what was looked at, None: they wait no more."""

    def __init__(self, task: int, topic: str, spec: GatherSpec, held: HeldRows) -> None:
        self._task, self._topic, self._spec, self._held = task, topic, spec, held
        self._grain = max(1, spec.wait_ms // _GRAINS)
        self.changed: dict[str, Held | None] = {}
        self.clock = held.clock(task)
        self.strays: list[Refused] = []
        self.given_up: list[Refused] = []

    def whole(self, chunk: Chunk) -> Chunk:
        """The rows of which a record of the chunk is the last part, in that record's place."""
        rows: list[int] = []
        values: list[bytes | None] = []
        for i, (value, logged) in enumerate(zip(chunk.values, chunk.timestamps, strict=True)):
            self._at(logged)
            part = read_part(value)
            if part is None or value is None or not self._fits(part):
                detail = "no stage of this pipeline wrote the record"
                at = chunk.offsets[i], logged
                self.strays.append(Refused(self._task, *at, "not_handed_on", detail, value, self._topic))
            elif (row := self._with(part, value, chunk.offsets[i])) is not None:
                rows.append(i)
                values.append(row)
        offsets, keys = [chunk.offsets[i] for i in rows], [chunk.keys[i] for i in rows]
        return Chunk(chunk.tp, offsets, keys, values, [chunk.timestamps[i] for i in rows], chunk.next_offset)

    def _row(self, place: str) -> Held | None:
        return self.changed[place] if place in self.changed else self._held.row(self._task, place)

    def _fits(self, part: RowPart) -> bool:
        """Whether the row waits for it."""
        if not 0 <= part.number < len(self._spec.parts):
            return False
        held = self._row(part.place)
        return held is None or held.parts[part.number] is None

    def _with(self, part: RowPart, value: bytes, offset: int) -> bytes | None:
        """The row if it is whole now, and to be; else what there is of it waits."""
        held = self._row(part.place) or Held(self.clock, offset, (None,) * len(self._spec.parts))
        parts = list(held.parts)
        parts[part.number] = _GONE if part.refused or _GONE in parts else value
        if part.refused:
            parts = [None if one is None else _GONE for one in parts]
        if None in parts:
            self.changed[part.place] = held._replace(parts=tuple(parts))
            return None
        self.changed[part.place] = None
        found = [one for one in parts if one]
        return united(found) if len(found) == len(parts) else None

    # ---- what waits too long

    def _at(self, logged: int) -> None:
        """The clock goes on, to a record's log time."""
        if logged // self._grain > self.clock // self._grain:
            self._give_up(logged // self._grain * self._grain - self._spec.wait_ms)
        self.clock = max(self.clock, logged)

    def _give_up(self, since: int) -> None:
        """What has waited since then: the first time it is a dead letter, and what is late of it is waited for, and
        dropped; then it is forgotten.
        """
        held = [(place, row) for place, row in self._held.older(self._task, since) if place not in self.changed]
        held += [(place, row) for place, row in self.changed.items() if row is not None and row.since <= since]
        for place, row in sorted(held, key=lambda one: (one[1].since, one[1].offset)):
            if _GONE in row.parts:
                self.changed[place] = None
                continue
            gone = tuple(None if part is None else _GONE for part in row.parts)
            self.changed[place] = Held(self.clock, row.offset, gone)
            missing = [name for name, part in zip(self._spec.parts, row.parts, strict=True) if part is None]
            value = next(part for part in row.parts if part)
            detail = f"no part of the row came from {', '.join(missing)}"
            self.given_up.append(Refused(self._task, row.offset, row.since, "part_missing", detail, value, self._topic))
