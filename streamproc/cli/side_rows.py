"""Rows of the streams that a stage does not decide, in a replay: read as far as merging needs them."""

from __future__ import annotations

__all__ = [
    "Pieces",
    "SideLetter",
    "SideRows",
    "file_pieces",
    "merged_chunks",
    "partition_places",
    "rest_of",
    "sides_of",
]

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.plan import Plan, streams_of
from operators.schema import StreamSchema
from state.hashing import partitions_of
from streamproc.cli.files import Piece, read_file
from streamproc.cli.records import Key, Row
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.chunks import rows_of
from streamproc.runtime.merge import Lane, merge_heads
from streamproc.runtime.rows import Refused

Times = Callable[[Chunk], npt.NDArray[np.int64]]
Pieces = Iterator[tuple[Path, Piece, Sequence[int]]]
"""The pieces of a stream, each with its file and the log times of its rows (ms)."""


class SideLetter(NamedTuple):
    """A row of a file that could not be read, or no record at all."""

    path: Path
    number: int
    reason: str
    detail: str


def partition_places(keys: Sequence[Key], partitions: int) -> npt.NDArray[np.int64]:
    """Where Kafka's default partitioner puts records; the first partition takes those without a key."""
    places = partitions_of([key or b"" for key in keys], partitions).astype(np.int64)
    if None in keys:
        places[[i for i, key in enumerate(keys) if key is None]] = 0
    return places


class _Held(NamedTuple):
    """Rows of one partition."""

    chunk: Chunk
    times: npt.NDArray[np.int64]


class SideRows:
    """One stream's rows, by partition. An offset counts the rows of all its pieces.

    Args:
        stream: whose.
        partitions: of its topic.
        times: how event times are read.
        pieces: of its files, in order.
    """

    def __init__(self, stream: StreamSchema, partitions: int, times: Times, pieces: Pieces) -> None:
        self.stream, self.partitions = stream, partitions
        self._times, self._pieces = times, pieces
        self._held: dict[int, _Held] = {}
        self._begins: list[int] = []
        self._read: list[tuple[Path, Sequence[int]]] = []
        self._letters: list[SideLetter] = []
        self.rows = 0
        self.ended = False

    def read(self) -> None:
        """One piece more, unless it has ended."""
        found = next(self._pieces, None)
        if found is None:
            self.ended = True
            return
        path, piece, logged = found
        begin = self._begins[-1] + len(self._read[-1][1]) if self._begins else 0
        self._begins.append(begin)
        self._read.append((path, piece.numbers))
        self._letters += [SideLetter(path, number, reason, "this row is no record") for number, reason in piece.skipped]
        self.rows += len(piece.rows) + len(piece.skipped)
        places = partition_places(piece.keys, self.partitions)
        for task in np.unique(places).tolist():
            mine: list[int] = np.flatnonzero(places == task).tolist()
            offsets = [begin + i for i in mine]
            rows: list[Row] = [piece.rows[i] for i in mine]
            tp = TopicPartition(self.stream.topic, task)
            chunk = Chunk(tp, offsets, [piece.keys[i] for i in mine], rows, [logged[i] for i in mine], offsets[-1] + 1)
            self._add(task, chunk)

    def _add(self, task: int, chunk: Chunk) -> None:
        times = self._times(chunk)
        held = self._held.get(task)
        if held is not None:
            chunk = Chunk(
                chunk.tp, [*held.chunk.offsets, *chunk.offsets], [*held.chunk.keys, *chunk.keys],
                [*held.chunk.values, *chunk.values], [*held.chunk.timestamps, *chunk.timestamps], chunk.next_offset,
            )  # fmt: skip
            times = np.concatenate((held.times, times))
        self._held[task] = _Held(chunk, times)

    def lane(self, task: int) -> Lane:
        """What is held of a partition."""
        held = self._held.get(task)
        return Lane(np.empty(0, np.int64) if held is None else held.times, not self.ended)

    def take(self, task: int, rows: int) -> Chunk:
        """The next `rows` rows of a partition."""
        chunk, times = self._held.pop(task)
        if rows < len(chunk.offsets):
            self._held[task] = _Held(rows_of(chunk, rows, len(chunk.offsets)), times[rows:])
        return rows_of(chunk, 0, rows)

    @property
    def tasks(self) -> list[int]:
        """The partitions of which something is held."""
        return sorted(self._held)

    def letters(self) -> list[SideLetter]:
        """What was refused, or was no record, since this was asked last."""
        found, self._letters = self._letters, []
        return found

    def refused(self, letters: Sequence[Refused]) -> None:
        """Note where its own among these rows stand."""
        for letter in letters:
            if letter.topic == self.stream.topic:
                at = bisect_right(self._begins, letter.offset) - 1
                path, numbers = self._read[at]
                number = numbers[letter.offset - self._begins[at]]
                self._letters.append(SideLetter(path, number, letter.reason, letter.detail))


def file_pieces(stream: StreamSchema, paths: Sequence[Path], now_ms: int) -> Pieces:
    """The pieces of a stream's files; all rows have one log time."""
    for path in paths:
        for piece in read_file(path, stream):
            yield path, piece, [now_ms] * len(piece.rows)


def sides_of(plans: Sequence[Plan], paths: Mapping[str, Sequence[Path]]) -> dict[str, Pieces]:
    """The pieces of all streams but the one that is decided; the log time of all rows is now."""
    _, *others = streams_of(plans).items()
    now_ms = time.time_ns() // 1_000_000
    return {name: file_pieces(stream, paths[name], now_ms) for name, stream in others}


def merged_chunks(own: Chunk, times: npt.NDArray[np.int64], sides: Sequence[SideRows], task: int) -> list[Chunk]:
    """The rows of `own`, of these times, and what comes before each of them of the sides, of which as much is read as
    that needs.
    """
    lane = Lane(times, True)  # what follows is not known yet: nothing goes behind its last row
    while True:
        runs = merge_heads([lane, *(side.lane(task) for side in sides)])
        if sum(rows for number, rows in runs if number == 0) == len(lane.times):
            break
        for side in [side for side in sides if not side.ended]:
            side.read()
    return _cut(runs, own, sides, task)


def _cut(runs: Sequence[tuple[int, int]], own: Chunk, sides: Sequence[SideRows], task: int) -> list[Chunk]:
    chunks, at = [], 0
    for number, rows in runs:
        if number:
            chunks.append(sides[number - 1].take(task, rows))
        else:
            chunks.append(rows_of(own, at, at + rows))
            at += rows
    return chunks


def rest_of(sides: Sequence[SideRows], task: int) -> list[Chunk]:
    """What is held of the sides when nothing else comes any more, as far as its order is certain."""
    chunks = []
    for number, rows in merge_heads([side.lane(task) for side in sides]):
        chunks.append(sides[number].take(task, rows))
    return chunks
