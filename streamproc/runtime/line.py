"""Rows of one partition that wait for answers, in the order they came."""

from __future__ import annotations

__all__ = ["Line", "Row"]

import asyncio
from collections import deque
from itertools import islice

import msgspec

from operators.handoff import joined
from streamproc.eventlog.contract import Chunk, TopicPartition


class Row(msgspec.Struct):
    """A record and its answer, or what will be that. `after`: where reading goes on behind it."""

    key: bytes | None
    value: bytes | None
    after: int
    answer: bytes | asyncio.Future[bytes]

    @property
    def is_answered(self) -> bool:
        """Whether it can go on."""
        return isinstance(self.answer, bytes) or self.answer.done()

    def answered(self) -> bytes | None:
        """The record with its answer."""
        members = self.answer if isinstance(self.answer, bytes) else self.answer.result()
        return joined(self.value, members) if self.value else self.value


class Line:
    """First come, first gone. `position`: where reading of `source` begins again for who has lost it."""

    phase = "asking"

    def __init__(self, source: TopicPartition, position: int) -> None:
        self.source, self.position = source, position
        self._rows: deque[Row] = deque()

    @property
    def inputs(self) -> tuple[TopicPartition, ...]:
        """Its one source."""
        return (self.source,)

    @property
    def positions(self) -> tuple[int, ...]:
        """The position in it."""
        return (self.position,)

    def position_of(self, _: TopicPartition) -> int:
        """The same, asked for by the source."""
        return self.position

    @property
    def named(self) -> dict[str, object]:
        """How the log names it."""
        return {"topic": self.source.topic, "task": self.source.partition}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, chunk: Chunk, place: int, answer: bytes | asyncio.Future[bytes]) -> None:
        """The record at `place` of a chunk comes last."""
        is_last = place + 1 == len(chunk.offsets)
        after = chunk.next_offset if is_last else chunk.offsets[place + 1]
        self._rows.append(Row(chunk.keys[place], chunk.values[place], after, answer))

    def ready(self, most: int) -> list[Row]:
        """The rows before the first one without an answer, `most` of them."""
        found: list[Row] = []
        for row in islice(self._rows, most):
            if not row.is_answered:
                break
            found.append(row)
        return found

    def drop(self, rows: int) -> None:
        """The first ones have gone."""
        for _ in range(rows):
            self.position = self._rows.popleft().after
