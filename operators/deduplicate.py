"""Deduplication: has this id been decided within the horizon, and of the same payload?

A row whose id is alive in its task with the same payload digest is a duplicate: it gets the first decision's action
and changes nothing. If the payload differs, the id is `reused`: the row is decided anew and takes the id over. An
entry is alive while the task's stream time (running maximum of event time, the asking row included) is at most the
horizon past the entry's event time. All this depends on row order only, never on where batches were cut.
"""

from __future__ import annotations

__all__ = ["Deduplicator", "DuplicateFlags", "payload_digests", "record_actions", "with_first_actions"]

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from operators.batch import TaskRows
from state.actions import ActionCodes
from state.by_task import ByTask
from state.compiling import can_compile, made_or_told
from state.entries import Entries
from state.errors import ConfigError
from state.hashing import digest64, digests128
from state.id_loop import PLACE, ROW, Judge, compiled_judge
from state.part import Adopt, PartCut
from state.rowstore import RowStore
from state.segment_store import SegmentStore
from state.segments import UNINDEXED, IdSegments

I64 = npt.NDArray[np.int64]
_ANY = ActionCodes()  # codes that nobody names
_FEW = 12  # up to so many rows of a task, a loop is faster than columns


class DuplicateFlags(NamedTuple):
    """What deduplication says of each row of a batch.

    `first_action`: the action recorded for the first occurrence, where `duplicate` and `first_row` is -1.
    `first_row`: where the first occurrence lies in this same batch: its row, whose action is still to be decided.
    """

    duplicate: npt.NDArray[np.bool_]
    reused: npt.NDArray[np.bool_]
    first_action: npt.NDArray[np.uint8]
    first_row: I64
    handles: list[_New]


class _New(NamedTuple):
    """Rows of the batch, and where in `columns` the entries made for them lie; whose they are: task by task, one past
    the last.
    """

    tasks: list[tuple[IdSegments, int]]
    rows: I64
    places: I64


def payload_digests(payloads: Sequence[bytes | None]) -> I64:
    """A digest (XXH3) of each record's bytes, int64 (records,), each `state.hashing.payload_digest` of its record."""
    return np.frombuffer(b"".join(map(xxhash.xxh3_64_digest, payloads)), ">i8").astype(np.int64)  # type: ignore[arg-type]


def record_actions(flags: DuplicateFlags, actions: npt.NDArray[np.uint8]) -> None:
    """Keep the actions decided for the rows that were not duplicates; `actions`: uint8 (rows,)."""
    for tasks, rows, places in flags.handles:
        given, begin = actions[rows], 0
        for segments, end in tasks:
            segments.columns.action[places[begin:end]] = given[begin:end]
            begin = end


def with_first_actions(flags: DuplicateFlags, fresh: I64, decided: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One action a row: the decided one, or for a duplicate that of the id's first row, maybe in this batch."""
    if len(fresh) == len(flags.duplicate):
        return decided
    actions: npt.NDArray[np.uint8] = flags.first_action.copy()
    actions[fresh] = decided
    here = (flags.duplicate & (flags.first_row >= 0)).nonzero()[0]
    actions[here] = actions[flags.first_row[here]]
    return actions


def _flags(size: int) -> DuplicateFlags:
    """Of new rows."""
    duplicate, reused = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    first_row = np.empty(size, np.int64)
    first_row.fill(-1)
    return DuplicateFlags(duplicate, reused, np.zeros(size, np.uint8), first_row, [])


class Deduplicator(ByTask[IdSegments]):
    """The ids of one stream, for all tasks of a worker; a `StatePart`.

    Args:
        horizon_ms: how far, in event time, an id is remembered.
        name: unique in the plan and stable over releases.
        actions: those of the plan; what is stored under others is read by name.
    """

    def __init__(self, horizon_ms: int, name: str = "deduplicate", actions: ActionCodes = _ANY) -> None:
        if horizon_ms <= 0 or len(name.encode()) > 255:
            raise ConfigError("a deduplication horizon is longer than 0 ms, and its name at most 255 bytes long")
        self.name = name
        self.horizon_ms = horizon_ms
        self.actions = actions
        self.fingerprint = digest64(f"deduplicate 1 {horizon_ms}".encode())
        super().__init__()
        self._stored: dict[int, SegmentStore] = {}
        self._loop: Judge | None = None

    def prepare(self) -> None:
        """Rows are judged by a compiled loop from now on, where it can be made."""
        self._loop = made_or_told(self._judge, "ids are looked up by columns") if can_compile() else None

    def _judge(self) -> Judge:
        """The loop, tried once."""
        loop = compiled_judge()
        none = np.empty((4, 0), np.int64)
        IdSegments(self.horizon_ms).judge(loop, none, (0, 0), _flags(0)[:4], none, done=0)
        return loop

    # ---- the hot path

    def check(
        self, tasks: Sequence[TaskRows], ids: list[str], payload_digests: I64, event_times: I64
    ) -> DuplicateFlags:
        """Judge each row, in row order within each task, and remember the new ids.

        Args:
            tasks: which rows are whose, each task once; tasks are made on first sight if they were not added.
            ids: id of each row.
            payload_digests: int64 (rows,), equal for equal payloads.
            event_times: int64 (rows,), ms.
        """
        size = len(ids)
        flags = _flags(size)
        if not size:
            return flags
        hashes = digests128(ids)
        for span in tasks:
            if span.task not in self._tasks:
                self._add(span.task, *self._new())
            self._tasks[span.task].begin()
        if self._loop is not None:
            rows = np.empty((4, size), np.int64)
            rows[:2], rows[2], rows[3] = hashes.view(np.int64).T, payload_digests, event_times
            self._by_loop(self._loop, tasks, rows, flags)
            return flags
        for span in tasks:
            part = _Part(self._tasks[span.task], flags, span, hashes, digests=payload_digests, times=event_times)
            if span.stop - span.start <= _FEW:
                part.check_few()
            elif span.stop > span.start:
                part.check_many()
        return flags

    def _by_loop(self, loop: Judge, tasks: Sequence[TaskRows], rows: I64, flags: DuplicateFlags) -> None:
        """Judge `rows`, as the loop gets them."""
        made, verdicts, done = np.empty_like(rows), flags[:4], 0
        ends: list[tuple[IdSegments, int]] = []
        for task, start, stop in tasks:
            index = self._tasks[task]
            end = index.judge(loop, rows, (start, stop), verdicts, made, done=done)
            if end > done:
                ends.append((index, end))
                done = end
        if done:
            flags.handles.append(_New(ends, made[ROW, :done], made[PLACE, :done]))

    def record(self, flags: DuplicateFlags, actions: npt.NDArray[np.uint8]) -> None:
        """Keep the actions decided for the rows that were not duplicates; `actions`: uint8 (rows,)."""
        record_actions(flags, actions)

    # ---- a part of the worker's state

    def read(self, store: RowStore, *, fresh: bool) -> Adopt:
        """Read a task's ids and build their index."""
        index, stored = self._new()
        if not fresh:
            stored.load(store)
        return lambda task: self._add(task, index, stored)

    def _new(self) -> tuple[IdSegments, SegmentStore]:
        index = IdSegments(self.horizon_ms)
        return index, SegmentStore(self.name, self.fingerprint, index, self.actions)

    def _add(self, task: int, index: IdSegments, stored: SegmentStore) -> None:
        self._adopt(task, index)
        self._stored[task] = stored

    def drop_task(self, task: int) -> None:
        """Forget a task's ids."""
        super().drop_task(task)
        self._stored.pop(task, None)

    def cut(self, task: int) -> PartCut:
        """Copy the entries that are not stored yet."""
        return self._stored[task].cut()

    def dirty_rows(self, task: int) -> int:
        """Rows (chunks of entries, not entries) that a cut would write."""
        return self._stored[task].dirty_rows

    @property
    def live_keys(self) -> int:
        """Entries in memory, of all tasks."""
        return sum(map(len, self._tasks.values()))

    @property
    def used_bytes(self) -> int:
        """Memory in use: all of it is needed."""
        return self.bytes_estimate()

    def expire(self) -> int:
        """`publish` drops expired segments."""
        return 0

    def evict(self) -> int:
        """Ids leave memory when they expire, not before."""
        return 0

    def bytes_estimate(self) -> int:
        """Memory in use, in bytes."""
        return sum(index.bytes for index in self._tasks.values())

    def canonical(self, task: int) -> Iterator[bytes]:
        """Stream time, and every alive entry by hash."""
        index = self._tasks[task]
        yield index.stream_time.to_bytes(8, "little", signed=True)
        columns = index.columns
        at = index.at(np.arange(index.first, index.stop))
        order = np.lexsort((np.arange(len(at)), columns.hi[at], columns.lo[at]))
        ordered = columns.take(at[order])
        last = np.ones(len(at), np.bool_)
        last[:-1] = (ordered.lo[1:] != ordered.lo[:-1]) | (ordered.hi[1:] != ordered.hi[:-1])
        alive = ordered.take(np.flatnonzero(last & (index.stream_time - ordered.time <= self.horizon_ms)))
        for column in alive:
            yield column.tobytes()


class _Part:
    """One task's rows of one batch."""

    def __init__(
        self,
        index: IdSegments,
        flags: DuplicateFlags,
        span: TaskRows,
        hashes: npt.NDArray[np.uint64],
        *,
        digests: I64,
        times: I64,
    ) -> None:
        self.index = index
        self.flags = flags
        self.start = span.start
        self.lo = hashes[span.start : span.stop, 0]
        self.hi = hashes[span.start : span.stop, 1]
        self.digests = digests[span.start : span.stop]
        self.times = times[span.start : span.stop]

    def check_few(self) -> None:
        """Row by row."""
        index, flags = self.index, self.flags
        begin, stream = index.stop, index.stream_time
        rows: list[int] = []
        each = zip(self.lo.tolist(), self.hi.tolist(), self.digests.tolist(), self.times.tolist(), strict=True)
        for row, (lo, hi, digest, time) in enumerate(each, self.start):
            stream = index.stream_time = max(stream, time)
            number, slot = index.find_one(lo, hi)
            if number >= 0:
                at = index.place(number)
                if stream - index.columns.time.item(at) <= index.horizon:
                    if index.columns.digest.item(at) == digest:
                        flags.duplicate[row] = True
                        if number >= begin:
                            flags.first_row[row] = rows[number - begin]
                        else:
                            flags.first_action[row] = index.columns.action[at]
                        continue
                    flags.reused[row] = True
            index.append_one(lo, hi, digest=digest, time=time, slot=slot)
            rows.append(row)
        if rows:
            places = index.at(np.arange(begin, index.stop))
            flags.handles.append(_New([(index, len(rows))], np.array(rows, np.int64), places))

    def check_many(self) -> None:
        """By columns; ids that occur more than once in the batch row by row."""
        index, start, stop = self.index, self.start, self.start + len(self.times)
        stream = np.maximum(np.maximum.accumulate(self.times), index.stream_time)
        found, slots = index.find(self.lo, self.hi)
        alive = np.zeros(len(found), np.bool_)
        known = (found >= 0).nonzero()[0]
        if known.size:
            self._known(known, stream, found, alive)
        self._repeated(stream, found, alive, slots)
        index.stream_time = int(stream[-1])
        new = (~self.flags.duplicate[start:stop]).nonzero()[0]
        if new.size:
            entries = Entries(self.lo, self.hi, self.digests, self.times, np.zeros(len(found), np.uint8))
            if len(new) < len(found):
                entries, stream, slots = entries.take(new), stream[new], slots[new]
            places = index.at(index.append(entries, stream, slots))
            self.flags.handles.append(_New([(index, len(new))], new + start, places))

    def _known(self, known: I64, stream: I64, found: I64, alive: npt.NDArray[np.bool_]) -> None:
        """Of ids that are in the index: whether they are `alive`, and repeats or reused."""
        index, flags, rows = self.index, self.flags, known + self.start
        at = index.at(found[known])
        alive[known] = lives = stream[known] - index.columns.time[at] <= index.horizon
        same = lives & (index.columns.digest[at] == self.digests[known])
        flags.duplicate[rows] = same
        flags.reused[rows] = lives & ~same
        flags.first_action[rows] = np.where(same, index.columns.action[at], 0)

    def _repeated(self, stream: I64, found: I64, alive: npt.NDArray[np.bool_], slots: I64) -> None:
        ordered = np.sort(self.lo)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        if not again.size:
            return
        columns = self.index.columns
        latest: dict[tuple[int, int], tuple[int, int, int]] = {}  # (digest, time, row) of entries made by the batch
        for i in np.flatnonzero(np.isin(self.lo, again)).tolist():
            row = self.start + i
            key = (self.lo.item(i), self.hi.item(i))
            digest, time = self.digests.item(i), self.times.item(i)
            mine = latest.get(key)
            if mine is not None:
                lives = stream.item(i) - mine[1] <= self.index.horizon
                same = lives and mine[0] == digest
            else:
                lives = bool(alive[i])
                same = lives and columns.digest.item(self.index.at(found[i])) == digest
            self.flags.duplicate[row] = same
            self.flags.reused[row] = lives and not same
            if mine is not None:
                self.flags.first_action[row] = 0
                self.flags.first_row[row] = mine[2] if same else -1
            if not same:
                if mine is not None:
                    slots[mine[2] - self.start] = UNINDEXED
                latest[key] = (digest, time, row)
