"""Rows of several streams in one batch: each stream has its own decoder; then all stand in the order of merging.

A batch has the columns of all streams, NULL where a row's stream does not have one, and the column `stream`.
"""

from __future__ import annotations

__all__ = ["decode_union", "each_stream"]

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Column, TaskRows
from operators.decode import Decoded
from operators.deduplicate import Deduplicator, DuplicateFlags
from operators.operator import STRING
from operators.plan import STREAM
from operators.schema import DataType, StreamSchema
from streamproc.runtime.rows import Indices, Refused, Rows, StreamDecoder, TaskInput, decode_rows, respan


class _Records:
    """The records of one stream, of all tasks, and where each stands among all of the batch."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.places: list[int] = []


class _Part(NamedTuple):
    records: _Records
    decoded: Decoded
    places: Indices


def decode_union(
    streams: Sequence[StreamSchema], decoders: Sequence[StreamDecoder], inputs: Sequence[TaskInput]
) -> Rows:
    """Decode every record of `inputs`, whose chunks stand in the order of merging; bad ones are refused one by one.

    Args:
        streams: all that enter the stage, the one that is decided first.
        decoders: one a stream.
        inputs: by task.
    """
    numbers = {stream.topic: number for number, stream in enumerate(streams)}
    came = {chunk.tp.topic for task_input in inputs for chunk in task_input.chunks if chunk.offsets}
    if len(came) == 1:  # most batches: its records stand in the order of merging
        return _decode_one(streams, decoders, inputs, numbers[came.pop()])
    records, bounds = _gather(numbers, inputs)
    parts = []
    for mine, decoder in zip(records, decoders, strict=True):
        decoded = decoder.decode(mine.values, mine.timestamps)
        parts.append(_Part(mine, decoded, np.array(mine.places, np.int64)[decoded.rows]))
    places = np.concatenate([part.places for part in parts])
    order = np.argsort(places)
    tasks = [task_input.task for task_input in inputs]
    edges = np.searchsorted(places[order], bounds).tolist()
    spans = tuple(TaskRows(t, a, b) for t, a, b in zip(tasks, edges[:-1], edges[1:], strict=True) if b > a)
    number = np.repeat(np.arange(len(parts)), [len(part.places) for part in parts])[order]
    picked = order.tolist()

    def listed(each: list[list[str]]) -> list[str]:
        joined = [text for some in each for text in some]
        return [joined[i] for i in picked]

    payloads = [part.records.values[row] for part in parts for row in part.decoded.rows.tolist()]
    return Rows(
        spans,
        _numbers([np.array(part.records.offsets, np.int64)[part.decoded.rows] for part in parts])[order],
        _numbers([np.array(part.records.timestamps, np.int64)[part.decoded.rows] for part in parts])[order],
        [payloads[i] for i in picked],
        listed([part.decoded.ids for part in parts]),
        listed([part.decoded.keys for part in parts]),
        _numbers([part.decoded.event_time for part in parts])[order],
        _columns(streams, parts, order, number),
        _refused(streams, parts, tasks, bounds),
        sum(part.decoded.extras for part in parts),
        number,
        tuple(stream.topic for stream in streams),
    )


def _decode_one(
    streams: Sequence[StreamSchema], decoders: Sequence[StreamDecoder], inputs: Sequence[TaskInput], number: int
) -> Rows:
    """`decode_union` of records that are all of the stream of that `number`."""
    rows = decode_rows(decoders[number], inputs)
    for letter in rows.refused:
        letter.topic = streams[number].topic
    columns: dict[str, Column] = {}
    blanks: dict[DataType, Column] = {}
    for i, stream in enumerate(streams):
        if i == number:
            columns.update(rows.columns)
            continue
        for spec in stream.fields:
            if spec.name in columns:
                continue
            if (known := rows.columns.get(spec.name)) is None and (known := blanks.get(spec.type)) is None:
                known = blanks[spec.type] = _blank(spec.type, rows.size)
            columns[spec.name] = known
    columns[STREAM] = Column(STRING, np.full(rows.size, streams[number].name, np.object_))
    rows.columns, rows.streams = columns, np.full(rows.size, number, np.int64)
    rows.topics = tuple(stream.topic for stream in streams)
    return rows


def _gather(numbers: dict[str, int], inputs: Sequence[TaskInput]) -> tuple[list[_Records], list[int]]:
    """The records by stream, and where each task's end among all."""
    records = [_Records() for _ in numbers]
    place, bounds = 0, [0]
    for task_input in inputs:
        for chunk in task_input.chunks:
            mine = records[numbers[chunk.tp.topic]]
            mine.values += chunk.values
            mine.offsets += chunk.offsets
            mine.timestamps += chunk.timestamps
            mine.places += range(place, place := place + len(chunk.offsets))
        bounds.append(place)
    return records, bounds


def _numbers(parts: Sequence[Indices]) -> Indices:
    return np.concatenate(parts).astype(np.int64, copy=False)


def _columns(
    streams: Sequence[StreamSchema], parts: Sequence[_Part], order: npt.NDArray[np.intp], number: Indices
) -> dict[str, Column]:
    types = {name: column.type for part in parts for name, column in part.decoded.columns.items()}
    names = np.array([stream.name for stream in streams], np.object_)
    columns = {name: _column(name, type_, parts).take(order) for name, type_ in types.items()}
    return {**columns, STREAM: Column(STRING, names[number])}


def _blank(type_: DataType, size: int) -> Column:
    """NULLs."""
    return Column(type_, np.full(size, type_.blank, type_.dtype), np.zeros(size, np.bool_))


def _column(name: str, type_: DataType, parts: Sequence[_Part]) -> Column:
    """The column over all streams, one after the other."""
    values, masks, missing = [], [], False
    for part in parts:
        size = len(part.places)
        column = part.decoded.columns.get(name) or _blank(type_, size)
        values.append(column.values)
        masks.append(np.ones(size, np.bool_) if column.valid is None else column.valid)
        missing = missing or (column.valid is not None and size > 0)
    return Column(type_, np.concatenate(values), np.concatenate(masks) if missing else None)


def _refused(
    streams: Sequence[StreamSchema], parts: Sequence[_Part], tasks: Sequence[int], bounds: Sequence[int]
) -> list[Refused]:
    found = []
    for stream, (records, decoded, _) in zip(streams, parts, strict=True):
        for reject in decoded.rejects:
            i = reject.index
            owner = tasks[int(np.searchsorted(bounds, records.places[i], side="right")) - 1]
            found.append(
                Refused(
                    owner, records.offsets[i], records.timestamps[i], reject.reason, reject.detail, records.values[i],
                    stream.topic,
                )
            )  # fmt: skip
    return found


def each_stream(deduplicators: Sequence[Deduplicator | None], rows: Rows, digests: Indices) -> DuplicateFlags:
    """What the deduplicators say, each of the rows of its stream."""
    assert rows.streams is not None
    first = int(rows.streams[0]) if rows.size else 0
    alone = deduplicators[first]
    if alone is not None and np.count_nonzero(rows.streams == first) == rows.size:
        return alone.check(rows.spans, rows.ids, digests, rows.event_time)
    flags = DuplicateFlags(
        np.zeros(rows.size, np.bool_), np.zeros(rows.size, np.bool_), np.zeros(rows.size, np.uint8),
        np.full(rows.size, -1, np.int64), [],
    )  # fmt: skip
    for number, deduplicator in enumerate(deduplicators):
        mine = np.flatnonzero(rows.streams == number)
        if deduplicator is None or not mine.size:
            continue
        ids = [rows.ids[i] for i in mine.tolist()]
        found = deduplicator.check(respan(rows.spans, mine), ids, digests[mine], rows.event_time[mine])
        flags.duplicate[mine], flags.reused[mine] = found.duplicate, found.reused
        flags.first_action[mine] = found.first_action
        flags.first_row[mine] = np.where(found.first_row >= 0, mine[found.first_row], -1)
        flags.handles.extend(handle._replace(rows=mine[handle.rows]) for handle in found.handles)
    return flags
