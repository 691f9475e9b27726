"""Rows of which not all parts have come: what a gathering stage holds, by task. A `StatePart`.

    g gather s          version, fingerprint, clock (8, little-endian)
    g gather h  place   version, msgpack of [since, offset, parts]

The name is preceded by its length (1). `place` names the row. The clock is the newest log time of the task's input: all
that waits is looked at by it, so what is given up depends on the records alone and never on when they were read.
"""

from __future__ import annotations

__all__ = ["HELD_ROWS", "Changes", "Held", "HeldRows"]

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from state.by_task import ByTask
from state.errors import StateCorruptedError
from state.hashing import digest64
from state.part import Adopt, Puts
from state.rowstore import RowStore

_VERSION = b"\x01"
_NAME = b"gather"
_PREFIX = b"g" + bytes([len(_NAME)]) + _NAME
HELD_ROWS = _PREFIX + b"h"
"""What the stored keys of held rows begin with."""
_ROW_BYTES = 300
"""What a row takes besides its parts, about."""


class Held(NamedTuple):
    """What has come of a row. `since`: the task's clock then, ms; `offset`: of the part that came first.

    `parts`: one each, None: it has not come. An empty one says that the row is not to be: a stage has refused it.
    """

    since: int
    offset: int
    parts: tuple[bytes | None, ...]

    @property
    def size(self) -> int:
        """Bytes of its parts."""
        return sum(len(part) for part in self.parts if part)


class Changes(NamedTuple):
    """What a batch does to a task's rows: by place, None: it is gone; `clock`: ms, from now on."""

    rows: dict[str, Held | None]
    clock: int


class HeldRows(ByTask["_Task"]):
    """The rows of all tasks of a worker. `parts`: how many a row has; `wait_ms`: how long the first ones wait."""

    def __init__(self, parts: int, wait_ms: int) -> None:
        self.name = _NAME.decode()
        self.fingerprint = digest64(f"gather 1 {parts} {wait_ms}".encode())
        self.parts, self.wait_ms = parts, wait_ms
        super().__init__()

    # ---- the hot path

    def row(self, task: int, place: str) -> Held | None:
        """What is held of a row."""
        return self._tasks[task].rows.get(place)

    def clock(self, task: int) -> int:
        """The newest log time, ms; 0 before the first record."""
        return self._tasks[task].clock

    def older(self, task: int, since: int) -> Iterator[tuple[str, Held]]:
        """All rows that are held since then or longer, in no particular order."""
        mine = self._tasks[task]
        if mine.oldest <= since:
            mine.oldest = min((held.since for held in mine.rows.values()), default=_LATEST)
            yield from [(place, held) for place, held in mine.rows.items() if held.since <= since]

    def apply(self, task: int, changes: Changes) -> None:
        """Take a batch's changes over; they can be undone until they are published."""
        mine = self._tasks[task]
        mine.note_clock()
        mine.clock = changes.clock
        for place, held in changes.rows.items():
            mine.put(place, held)

    # ---- a part of the worker's state

    def read(self, store: RowStore, *, fresh: bool) -> Adopt:
        """Read a task's rows."""
        made = _Task()
        if not fresh:
            self._load(made, store)

        return lambda task: self._adopt(task, made)

    def _load(self, task: _Task, store: RowStore) -> None:
        (state,) = store.get_many([_PREFIX + b"s"])
        if state is not None:
            head = _VERSION + self.fingerprint
            if not state.startswith(head) or len(state) != len(head) + 8:
                raise StateCorruptedError("held rows: the state row is wrong")
            task.clock = task.stored = int.from_bytes(state[len(head) :], "little", signed=True)
        for key, value in store.scan(HELD_ROWS):
            task.take(key[len(HELD_ROWS) :].decode("utf-8", "replace"), self._unpacked(value))
        task.dirty.clear()

    def _unpacked(self, value: bytes) -> Held:
        try:
            held = _decoder.decode(value[1:])
        except msgspec.MsgspecError:
            raise StateCorruptedError("held rows: a row cannot be read") from None
        if value[:1] != _VERSION or len(held.parts) != self.parts:
            raise StateCorruptedError("held rows: a row is wrong")
        return held

    def cut(self, task: int) -> HeldCut:
        """Copy what is dirty."""
        return HeldCut(self._tasks[task], self.fingerprint)

    def dirty_rows(self, task: int) -> int:
        """Rows that a cut would write."""
        mine = self._tasks[task]
        return len(mine.dirty) + (mine.clock != mine.stored)

    @property
    def live_keys(self) -> int:
        """Rows that are held, of all tasks."""
        return sum(len(task.rows) for task in self._tasks.values())

    @property
    def used_bytes(self) -> int:
        """Memory in use: all of it is needed."""
        return self.bytes_estimate()

    def expire(self) -> int:
        """Rows are given up as records come, not between batches."""
        return 0

    def evict(self) -> int:
        """They stay in memory."""
        return 0

    def bytes_estimate(self) -> int:
        """Memory in use, in bytes."""
        return sum(task.bytes + _ROW_BYTES * len(task.rows) for task in self._tasks.values())

    def canonical(self, task: int) -> Iterator[bytes]:
        """The clock, and every row by place."""
        mine = self._tasks[task]
        yield mine.clock.to_bytes(8, "little", signed=True)
        for place in sorted(mine.rows):
            yield place.encode() + b" " + _encoder.encode(mine.rows[place])


_LATEST = 1 << 62
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Held)


class _Layer(NamedTuple):
    """What was before a batch: rows by place, the clock."""

    rows: dict[str, Held | None]
    clock: list[int]


class _Task:
    """One task's rows. `oldest`: none is held for longer; `stored`: the clock as it is in the store."""

    def __init__(self) -> None:
        self.rows: dict[str, Held] = {}
        self.clock = self.bytes = 0
        self.stored: int | None = None
        self.oldest = _LATEST
        self.dirty: set[str] = set()
        self._open = _Layer({}, [])
        self._flying: _Layer | None = None

    def note_clock(self) -> None:
        """Keep it as it was before the batch."""
        if not self._open.clock:
            self._open.clock.append(self.clock)

    def put(self, place: str, held: Held | None) -> None:
        """Change a row within the batch."""
        self._open.rows.setdefault(place, self.rows.get(place))
        self.take(place, held)

    def take(self, place: str, held: Held | None) -> None:
        """Change a row for good."""
        before = self.rows.pop(place, None)
        self.bytes -= before.size if before is not None else 0
        self.dirty.add(place)
        if held is not None:
            self.rows[place] = held
            self.bytes += held.size
            self.oldest = min(self.oldest, held.since)

    def seal(self) -> None:
        self._flying, self._open = self._open, _Layer({}, [])

    def unseal(self) -> None:
        if self._flying is not None:
            self._open, self._flying = self._flying, None

    def publish(self) -> None:
        if self._flying is not None:
            self._flying = None
        else:
            self._open = _Layer({}, [])

    def undo(self) -> None:
        for place, held in self._open.rows.items():
            self.take(place, held)
        if self._open.clock:
            self.clock = self._open.clock[0]
        self._open = _Layer({}, [])

    @property
    def in_batch(self) -> bool:
        return bool(self._open.rows or self._open.clock or self._flying is not None)


class HeldCut:
    """A copy of one task's changed rows."""

    def __init__(self, task: _Task, fingerprint: bytes) -> None:
        self._task = task
        self._places, self._stored = task.dirty, task.stored
        self._copied: Mapping[str, Held | None] = {place: task.rows.get(place) for place in task.dirty}
        self._state = _VERSION + fingerprint + task.clock.to_bytes(8, "little", signed=True)
        self.rows = len(self._copied) + (task.clock != task.stored)
        task.dirty, task.stored = set(), task.clock

    def encode(self) -> tuple[Puts, list[bytes]]:
        """Rows to put and keys to delete."""
        puts: Puts = [(_PREFIX + b"s", self._state)]
        deletes = []
        for place, held in self._copied.items():
            key = HELD_ROWS + place.encode()
            if held is None:
                deletes.append(key)
            else:
                puts.append((key, _VERSION + _encoder.encode(held)))
        return puts, deletes

    def sweep(self, store: RowStore) -> list[bytes]:
        """What is given up is among what `encode` deletes."""
        return []

    def written(self) -> None:
        """The store has it."""

    def restore_dirty(self) -> None:
        """The write did not happen."""
        self._task.dirty |= self._places
        self._task.stored = self._stored
