"""Chunks cut into pieces; records are never reordered."""

from __future__ import annotations

__all__ = ["rows_of", "split_chunk"]

from streamproc.eventlog.contract import Chunk


def split_chunk(chunk: Chunk, rows: int) -> tuple[Chunk, Chunk]:
    """The first `rows` records and the rest, both non-empty."""
    return rows_of(chunk, 0, rows), rows_of(chunk, rows, len(chunk.offsets))


def rows_of(chunk: Chunk, start: int, stop: int) -> Chunk:
    """The records at places start..stop (exclusive), at least one; all that lies before the next is behind the last."""
    headers, size = chunk.headers, len(chunk.offsets)
    if start == 0 and stop == size:
        return chunk
    return Chunk(
        chunk.tp,
        chunk.offsets[start:stop],
        chunk.keys[start:stop],
        chunk.values[start:stop],
        chunk.timestamps[start:stop],
        chunk.next_offset if stop == size else chunk.offsets[stop],
        headers and headers[start:stop],
    )
