"""How an `IdSegments` lies in a row store: a state row, and chunks of entries in the order they were appended.

    d  name  s           version, fingerprint, first, stop, stream time, then (slice, first number) of each segment
    d  name  e  number   version, count (4), columns of `count` entries from `number` (8, big-endian) on, and the names
                         (JSON) that their actions count; version 1 has none

`name` is preceded by its length (1). A flush appends a chunk; chunks of dropped segments are deleted. A write that
failed may be stored all the same: the next one deletes its chunks, which may begin elsewhere than those that it puts.
"""

from __future__ import annotations

__all__ = ["SegmentStore", "SegmentsCut"]

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from state.actions import ActionCodes
from state.entries import Entries
from state.errors import StateCorruptedError
from state.part import Puts
from state.rowstore import RowStore
from state.segments import IdSegments

_VERSION = b"\x01"
_CHUNK_VERSION = b"\x02"
_CHUNK_MAX = 8192
_ENTRY_BYTES = 33


class SegmentStore:
    """The stored form of one task's `IdSegments`, whose actions are `actions`."""

    def __init__(self, name: str, fingerprint: bytes, segments: IdSegments, actions: ActionCodes) -> None:
        text = name.encode()
        self._prefix = b"d" + bytes([len(text)]) + text
        self._fingerprint = fingerprint
        self._segments = segments
        self.actions = actions
        self.flushed = segments.stop  # entries below are stored
        self.state = self._pack_state()  # the state row as stored
        self.chunks: list[tuple[int, int]] = []  # (first number, count) of stored chunks
        self.doubtful: frozenset[int] = frozenset()  # first numbers of chunks of writes that failed

    @property
    def dirty_rows(self) -> int:
        """Rows that a cut would write."""
        new = self._segments.stop - self.flushed
        return -(-new // _CHUNK_MAX) + (new != 0 or self._pack_state() != self.state)  # which says `flushed`, too

    # ---- flushing

    def cut(self) -> SegmentsCut:
        """Copy what is new, and count it as stored."""
        return SegmentsCut(self)

    def take(self) -> tuple[list[tuple[bytes, Entries]], tuple[bytes, bytes], list[bytes]]:
        """New chunks by key, the state row, keys of chunks to delete before; counts them as stored."""
        segments = self._segments
        begin = max(self.flushed, segments.first)
        new = []
        for number in range(begin, segments.stop, _CHUNK_MAX):
            count = min(_CHUNK_MAX, segments.stop - number)
            at = segments.at(np.arange(number, number + count))
            new.append((self._chunk_key(number), segments.columns.take(at)))
            self.chunks.append((number, count))
        gone = 0
        while gone < len(self.chunks) and sum(self.chunks[gone]) <= segments.first:
            gone += 1
        deletes = [self._chunk_key(number) for number, _ in self.chunks[:gone]]
        deletes += [self._chunk_key(number) for number in sorted(self.doubtful)]
        del self.chunks[:gone]
        self.doubtful = frozenset()
        self.flushed = segments.stop
        self.state = self._pack_state()
        return new, (self._prefix + b"s", self.state), deletes

    def _chunk_key(self, number: int) -> bytes:
        return self._prefix + b"e" + number.to_bytes(8, "big")

    def _pack_state(self) -> bytes:
        segments = self._segments
        numbers = [segments.first, segments.stop, segments.stream_time]
        for segment in segments.segments:
            numbers += segment
        return _VERSION + self._fingerprint + np.array(numbers, "<i8").tobytes()

    # ---- loading

    def load(self, store: RowStore) -> None:
        """Rebuild the index from the store.

        Raises:
            StateCorruptedError: a row or chunk is missing, cut short or wrong.
        """
        row = store.get_many([self._prefix + b"s"])[0]
        if row is None:
            raise StateCorruptedError("deduplication: the state row is missing")
        first, stop, stream_time, *rest = self._unpack_state(row)
        parts, reached = [], first
        for key, value in store.scan(self._prefix + b"e"):
            number = int.from_bytes(key[-8:], "big")
            entries = _unpack_chunk(value, self.actions)
            end = number + len(entries.lo)
            if end > first and ((number != reached and not number <= first == reached) or end > stop):
                raise StateCorruptedError("deduplication: a chunk is missing")
            self.chunks.append((number, end - number))
            if end > first:
                parts.append(entries.take(np.arange(max(first - number, 0), end - number)))
                reached = end
        if reached != stop:
            raise StateCorruptedError("deduplication: a chunk is missing")
        self._segments.restore(first, _joined(parts))
        self._segments.stream_time = stream_time
        self._segments.segments = list(zip(rest[::2], rest[1::2], strict=True))
        self.flushed, self.state = stop, row

    def _unpack_state(self, row: bytes) -> list[int]:
        head = _VERSION + self._fingerprint
        if not row.startswith(head) or (len(row) - len(head)) % 8:
            raise StateCorruptedError("deduplication: the state row is wrong")
        numbers: list[int] = np.frombuffer(row, "<i8", offset=len(head)).tolist()
        if len(numbers) < 3 or len(numbers) % 2 == 0 or not 0 <= numbers[0] <= numbers[1]:
            raise StateCorruptedError("deduplication: the state row is wrong")
        slices, firsts = numbers[3::2], numbers[4::2]
        if any(a >= b for a, b in pairwise(slices)) or any(a > b for a, b in pairwise([*firsts, numbers[1]])):
            raise StateCorruptedError("deduplication: the state row has impossible segments")
        return numbers


class SegmentsCut:
    """A copy of one task's new entries."""

    def __init__(self, owner: SegmentStore) -> None:
        self._owner = owner
        self._before = owner.flushed, owner.state, list(owner.chunks)
        self.rows = owner.dirty_rows
        begin, doubtful = owner.flushed, owner.doubtful
        self._actions = owner.actions.names
        self._new, self._state, self._deletes = owner.take()
        self._doubtful = doubtful | {number for number, _ in owner.chunks if number >= begin}

    def encode(self) -> tuple[Puts, list[bytes]]:
        """Rows to put and keys to delete."""
        puts = [(key, _pack_chunk(entries, self._actions)) for key, entries in self._new]
        return [*puts, self._state], self._deletes

    def sweep(self, store: RowStore) -> list[bytes]:
        """Chunks of expired segments are among what `encode` deletes."""
        return []

    def written(self) -> None:
        """The store has it."""

    def restore_dirty(self) -> None:
        """The write did not happen."""
        self._owner.flushed, self._owner.state, self._owner.chunks = self._before
        self._owner.doubtful = self._doubtful


def _pack_chunk(entries: Entries, actions: Sequence[str]) -> bytes:
    count = len(entries.lo).to_bytes(4, "little")
    return b"".join((_CHUNK_VERSION, count, *(column.tobytes() for column in entries), msgspec.json.encode(actions)))


def _unpack_chunk(value: bytes, actions: ActionCodes) -> Entries:
    """Entries whose actions are places in `actions`, whatever they were stored under."""
    count = int.from_bytes(value[1:5], "little")
    begin, end = 5 + 32 * count, 5 + _ENTRY_BYTES * count
    if value[:1] not in (_VERSION, _CHUNK_VERSION) or len(value) < end or (value[:1] == _VERSION and len(value) > end):
        raise StateCorruptedError("deduplication: a chunk is cut short or wrong")
    try:
        names = () if value[:1] == _VERSION else msgspec.json.decode(value[end:], type=tuple[str, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateCorruptedError("deduplication: a chunk is cut short or wrong") from error
    words = np.frombuffer(value, "<u8", 4 * count, 5).reshape(4, count)
    kept = np.frombuffer(actions.read(value[begin:end], names), np.uint8)
    return Entries(words[0], words[1], words[2].view(np.int64), words[3].view(np.int64), kept)


def _joined(parts: list[Entries]) -> Entries:
    if not parts:
        words, numbers = np.empty(0, np.uint64), np.empty(0, np.int64)
        return Entries(words, words, numbers, numbers, np.empty(0, np.uint8))
    return Entries(
        np.concatenate([part.lo for part in parts]),
        np.concatenate([part.hi for part in parts]),
        np.concatenate([part.digest for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.action for part in parts]),
    )
