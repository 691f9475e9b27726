"""The rows of one batch between decode and encode: which task, which offset, kept or refused, and why."""

from __future__ import annotations

__all__ = [
    "Condemned",
    "Gathered",
    "Refused",
    "Rows",
    "StreamDecoder",
    "TaskInput",
    "decode_rows",
    "respan",
    "set_aside",
    "task_inputs",
    "without",
]

from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, TaskRows, TaskTick
from operators.decode import Decoded
from operators.deduplicate import payload_digests
from operators.plan import DIGEST, ROUTE, Plan
from state.held import Changes
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.journal import RangeOfInput
from streamproc.runtime.notes import Portion
from streamproc.runtime.partition_task import PartitionTask, Phase

Indices = npt.NDArray[np.int64]
Condemned = Set[tuple[TopicPartition, int]]
"""(partition, offset) of records that crashed a worker process and must not be touched again."""


class StreamDecoder(Protocol):
    """See `RecordDecoder.decode`."""

    def decode(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded: ...


class TaskInput(msgspec.Struct):
    """What one task decides in this transaction: chunks of its partition, in offset order; then a clock tick, maybe.

    Where several streams enter its stage, chunks of all of them in the order of merging; `source` is the topic of the
    one that is decided. `tick`: the stream time (ms) to which the clock of a task has come whose input rests; its one
    chunk is empty.
    """

    task: int
    source: TopicPartition
    chunks: list[Chunk]
    tick: int | None = None

    @property
    def start(self) -> int:
        """The first offset."""
        first = self.chunks[0]
        return first.offsets[0] if first.offsets else first.next_offset

    @property
    def stop(self) -> int:
        """Where reading goes on."""
        return self.chunks[-1].next_offset

    @property
    def ranges(self) -> tuple[RangeOfInput, ...]:
        """The records, in order, in as few ranges as there are."""
        if len(self.chunks) == 1:
            chunk = self.chunks[0]
            offsets, stop = chunk.offsets, chunk.next_offset
            return (RangeOfInput(chunk.tp.topic, offsets[0] if offsets else stop, stop),)
        if all(chunk.tp == self.source for chunk in self.chunks):
            return (RangeOfInput(self.chunks[0].tp.topic, self.start, self.stop),)
        found: list[RangeOfInput] = []
        for chunk in self.chunks:
            topic, start, stop = chunk.tp.topic, chunk.offsets[0], chunk.next_offset
            if found and found[-1].topic == topic:
                start = found.pop().start
            found.append(RangeOfInput(topic, start, stop))
        return tuple(found)

    @property
    def rows(self) -> int:
        """Number of records."""
        return sum(len(chunk.offsets) for chunk in self.chunks)

    def portions(self) -> list[Portion]:
        """What it takes of each input."""
        if all(chunk.tp == self.source for chunk in self.chunks):
            return [Portion(*self.source, self.start, self.stop, self.rows)]
        by_input: dict[TopicPartition, list[Chunk]] = {}
        for chunk in self.chunks:
            by_input.setdefault(chunk.tp, []).append(chunk)
        return [TaskInput(self.task, tp, chunks).portions()[0] for tp, chunks in by_input.items()]


def task_inputs(chunks: Sequence[Chunk], tasks: Mapping[TopicPartition, PartitionTask]) -> list[TaskInput]:
    """What was collected, by task; records of tasks that do not run are left out. `tasks`: by each of their inputs.

    Raises:
        StateCorruptedError: a record comes a second time.
    """
    by_task: dict[TopicPartition, list[Chunk]] = {}
    first: dict[TopicPartition, int] = {}
    for chunk in chunks:
        task = tasks.get(chunk.tp)
        if task is not None and task.phase is Phase.RUNNING:
            by_task.setdefault(task.source, []).append(chunk)
            first.setdefault(chunk.tp, chunk.offsets[0])
    for tp, offset in first.items():
        tasks[tp].expect(tp, offset)
    return [TaskInput(tp.partition, tp, mine) for tp, mine in sorted(by_task.items())]


class Refused(msgspec.Struct):
    """A record that becomes a dead letter: where it stood and why; `value` is kept only for its keyed digest.

    `topic`: "" where the task's rows are of one stream.
    """

    task: int
    offset: int
    timestamp: int
    reason: str
    detail: str
    value: bytes | None
    topic: str = ""


class Gathered(NamedTuple):
    """What a batch does to the rows of which only parts have come, by task; `given_up`: those that wait no more."""

    changes: Mapping[int, Changes]
    given_up: Sequence[Refused]


class Rows(msgspec.Struct):
    """Decoded rows of several tasks, columns by name; all sequences have one entry a row.

    Rows of a task lie together, in offset order; `spans` covers them all. `refused` is in no particular order.
    `streams`: where several streams enter the stage, the number of each row's, whose topic is in `topics`; the rows of
    a task then are in the order of merging. `ticks` come after the rows. `late`: which rows are past their deadline
    (deadline.py); None: none is. `gathered`: how they came together of parts, and what waits now (gathering.py).
    `known_digests`: what `digests` has found.
    """

    spans: tuple[TaskRows, ...]
    offsets: Indices
    timestamps: Indices
    values: list[bytes | None]
    ids: list[str]
    keys: list[str]
    event_time: Indices
    columns: dict[str, Column]
    refused: list[Refused]
    extras: int
    streams: Indices | None = None
    topics: tuple[str, ...] = ("",)
    ticks: tuple[TaskTick, ...] = ()
    late: npt.NDArray[np.bool_] | None = None
    gathered: Gathered | None = None
    known_digests: Indices | None = None

    @property
    def given_up(self) -> Sequence[Refused]:
        """Rows that become dead letters though they were read before."""
        return () if self.gathered is None else self.gathered.given_up

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.ids)

    def take(self, rows: Indices) -> Rows:
        """The rows at ascending indices `rows`; nothing is refused by it."""
        if len(rows) == self.size:
            return self
        picked = rows.tolist()
        return Rows(
            respan(self.spans, rows),
            self.offsets[rows],
            self.timestamps[rows],
            [self.values[i] for i in picked],
            [self.ids[i] for i in picked],
            [self.keys[i] for i in picked],
            self.event_time[rows],
            {name: column.take(rows) for name, column in self.columns.items()},
            self.refused,
            self.extras,
            None if self.streams is None else self.streams[rows],
            self.topics,
            self.ticks,
            None if self.late is None else self.late[rows],
            self.gathered,
        )

    def refuse(self, rows: Sequence[int], reason: str, detail: str) -> Rows:
        """Without `rows`, which become dead letters."""
        task_of = np.repeat([span.task for span in self.spans], [span.stop - span.start for span in self.spans])
        for i in rows:
            topic = self.topics[0 if self.streams is None else int(self.streams[i])]
            at = int(self.offsets[i]), int(self.timestamps[i])
            self.refused.append(Refused(int(task_of[i]), *at, reason, detail, self.values[i], topic))
        keep = np.ones(self.size, np.bool_)
        keep[list(rows)] = False
        return self.take(np.flatnonzero(keep))

    def subjects(self, plan: Plan) -> list[str]:
        """What decisions about the rows are keyed by, as text: of a later stage, what the first one was keyed by."""
        if plan.stream.key != ROUTE:
            return self.keys
        return list(map(str, self.columns[plan.subject].values.tolist()))

    def digests(self) -> Indices:
        """Int64 (rows,): a digest of each record as it first came; a later stage is told it."""
        if self.known_digests is None:
            self.known_digests = self._digests()
        return self.known_digests

    def _digests(self) -> Indices:
        told = self.columns.get(DIGEST)
        if told is None:
            return payload_digests(self.values)
        if self.streams is None:
            return told.values
        taken = self.streams.nonzero()[0]  # only rows of the first stream were told
        if not taken.size:
            return told.values
        digests: Indices = told.values.copy()
        digests[taken] = payload_digests([self.values[i] for i in taken.tolist()])
        return digests

    def places(self) -> list[str]:
        """Where each row stands in its stage's source: no other row has it."""
        tasks = np.repeat([span.task for span in self.spans], [span.stop - span.start for span in self.spans])
        return [f"{task}-{offset}" for task, offset in zip(tasks.tolist(), self.offsets.tolist(), strict=True)]

    def batch(self) -> Batch:
        """The rows as the plan's steps see them; steps add their columns to a dictionary of its own."""
        return Batch(self.size, self.spans, self.event_time, self.keys, dict(self.columns), self.ticks, late=self.late)


def decode_rows(decoder: StreamDecoder, inputs: Sequence[TaskInput]) -> Rows:
    """Decode every record of `inputs`; bad ones are refused one by one."""
    values: list[bytes | None] = []
    offsets: list[int] = []
    timestamps: list[int] = []
    bounds = [0]
    for task_input in inputs:
        for chunk in task_input.chunks:
            values += chunk.values
            offsets += chunk.offsets
            timestamps += chunk.timestamps
        bounds.append(len(values))
    decoded = decoder.decode(values, timestamps)
    tasks = [task_input.task for task_input in inputs]
    edges = bounds
    if decoded.rejects or len(decoded.rows) < len(values):
        edges = np.searchsorted(decoded.rows, bounds).tolist()
    spans = tuple(
        TaskRows(task, start, stop)
        for task, start, stop in zip(tasks, edges[:-1], edges[1:], strict=True)
        if stop > start
    )
    refused = [
        Refused(
            tasks[bisect_right(bounds, reject.index) - 1], offsets[reject.index], timestamps[reject.index],
            reject.reason, reject.detail, values[reject.index],
        )
        for reject in decoded.rejects
    ]  # fmt: skip
    all_offsets = np.array(offsets, np.int64)
    all_timestamps = np.array(timestamps, np.int64)
    if len(decoded.rows) < len(values):
        kept = decoded.rows
        values = [values[i] for i in kept.tolist()]
        all_offsets, all_timestamps = all_offsets[kept], all_timestamps[kept]
    return Rows(
        spans, all_offsets, all_timestamps, values, decoded.ids, decoded.keys, decoded.event_time, decoded.columns,
        refused, decoded.extras,
    )  # fmt: skip


def set_aside(inputs: Sequence[TaskInput], condemned: Condemned) -> tuple[list[TaskInput], list[Refused]]:
    """`inputs` without the condemned records, and those as refused ones: nothing reads them, not even decode."""
    kept: list[TaskInput] = []
    refused: list[Refused] = []
    detail = "the worker process crashed at this record, also when it was alone"
    for task_input in inputs:
        chunks: list[Chunk] = []
        for chunk in task_input.chunks:
            bad = [i for i, offset in enumerate(chunk.offsets) if (chunk.tp, offset) in condemned]
            refused += [
                Refused(
                    task_input.task,
                    chunk.offsets[i],
                    chunk.timestamps[i],
                    "crashed_worker",
                    detail,
                    chunk.values[i],
                    chunk.tp.topic,
                )
                for i in bad
            ]
            chunks.append(without(chunk, set(bad)))
        kept.append(TaskInput(task_input.task, task_input.source, chunks, task_input.tick))
    return kept, refused


def without(chunk: Chunk, rows: Set[int]) -> Chunk:
    """The chunk less the records at the places `rows`."""
    if not rows:
        return chunk
    keep = [i for i in range(len(chunk.offsets)) if i not in rows]
    offsets, keys = [chunk.offsets[i] for i in keep], [chunk.keys[i] for i in keep]
    values, timestamps = [chunk.values[i] for i in keep], [chunk.timestamps[i] for i in keep]
    headers = chunk.headers and [chunk.headers[i] for i in keep]
    return Chunk(chunk.tp, offsets, keys, values, timestamps, chunk.next_offset, headers)


def respan(spans: Sequence[TaskRows], rows: Indices) -> tuple[TaskRows, ...]:
    """The spans when only the rows at ascending indices `rows` are left."""
    out: list[TaskRows] = []
    for span in spans:
        start, stop = np.searchsorted(rows, (span.start, span.stop)).tolist()
        if stop > start:
            out.append(TaskRows(span.task, start, stop))
    return tuple(out)
