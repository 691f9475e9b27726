"""A run of records as one blob: msgpack of (keys, values, timestamp, headers)."""

from __future__ import annotations

__all__ = ["RECORD_BYTES_MAX", "PackedChunk", "Records", "damaged", "pack", "unpack"]

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from state.errors import EventLogError
from streamproc.eventlog.contract import Headers, OutputRecords

RECORD_BYTES_MAX = 8 << 20
_CHUNK_BYTES_MAX = 512 << 10
_INT64 = 1 << 63


class PackedChunk(NamedTuple):
    """`length` records in `payload`."""

    length: int
    payload: bytes


class Records(NamedTuple):
    """What a payload holds; the columns have one length, `headers` is None when no record has any."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamp_ms: int
    headers: Sequence[Headers] | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(
    tuple[list[bytes | None], list[bytes | None], int, list[list[tuple[str, bytes]]] | None]
).decode


def pack(output: OutputRecords) -> list[PackedChunk]:
    """Chunks of at most 512 KiB, or of one record; empty if there are no records.

    Raises:
        EventLogError: a record of more than 8 MiB; never retriable.
    """
    if not len(output.keys) == len(output.values) == len(output.keys if output.headers is None else output.headers):
        raise ValueError(f"{output.tp}: keys, values and headers differ in length")
    if not output.keys:
        return []
    headers = output.headers if output.headers is not None and any(output.headers) else None
    return list(_pieces(Records(output.keys, output.values, output.timestamp_ms, headers), output.tp.topic))


def unpack(payload: bytes) -> Records:
    """The records of one payload.

    Raises:
        EventLogError: it is damaged.
    """
    try:
        records = Records(*_decode(payload))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise damaged() from error
    count = len(records.keys)
    whole = len(records.values) == count and (records.headers is None or len(records.headers) == count)
    if not whole or not -_INT64 <= records.timestamp_ms < _INT64:
        raise damaged()
    return records


def damaged() -> EventLogError:
    """The file is, where SQLite does not see it."""
    return EventLogError("the event log holds a damaged chunk: restore the directory from a backup")


def _pieces(records: Records, topic: str) -> Iterator[PackedChunk]:
    payload = _encode(records)
    count = len(records.keys)
    if len(payload) <= _CHUNK_BYTES_MAX or count == 1:
        if len(payload) > RECORD_BYTES_MAX:
            raise EventLogError(f"a record for {topic} has {len(payload)} bytes, more than {RECORD_BYTES_MAX}")
        yield PackedChunk(count, payload)
        return
    step = max(1, min(count // 2, count * _CHUNK_BYTES_MAX // len(payload)))
    for start in range(0, count, step):
        stop = start + step
        headers = records.headers and records.headers[start:stop]
        yield from _pieces(
            Records(records.keys[start:stop], records.values[start:stop], records.timestamp_ms, headers or None), topic
        )
