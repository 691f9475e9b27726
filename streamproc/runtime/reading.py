"""Reading stretches of the log again, outside the group: every wait is bounded."""

from __future__ import annotations

__all__ = ["POLL_MS", "MergedFeed", "Silence", "joined", "portions", "stretch", "ticked"]

from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from state.errors import EventLogError, InputGoneError
from streamproc.eventlog.contract import Chunk, EventLog, TopicPartition
from streamproc.runtime.chunks import rows_of, split_chunk
from streamproc.runtime.journal import RangeOfInput, Rejected

POLL_MS = 50
_SILENT_POLLS_MAX = 200


class Silence:
    """Bounds how long a log may deliver nothing of what it has: that is an outage, and no damage."""

    def __init__(self, tp: TopicPartition) -> None:
        self._tp = tp
        self._polls = 0

    def check(self, chunks: list[Chunk]) -> None:
        """Count a poll that brought `chunks`.

        Raises:
            EventLogError: retriable; too many in a row brought nothing.
        """
        self._polls = 0 if chunks else self._polls + 1
        if self._polls > _SILENT_POLLS_MAX:
            where = f"{self._tp.topic}[{self._tp.partition}]"
            raise EventLogError(f"{where}: the log delivers nothing of what it has", retriable=True)


async def stretch(log: EventLog, tp: TopicPartition, start: int, stop: int) -> AsyncIterator[Chunk]:
    """The records start..stop of a partition, and what came in the same answer.

    Raises:
        EventLogError: the log failed, or delivers nothing of what it has.
    """
    scanner, silence = log.scanner(), Silence(tp)
    try:
        scanner.seek(tp, start)
        while scanner.position(tp) < stop:
            chunks = await scanner.poll(POLL_MS)
            silence.check(chunks)
            for chunk in chunks:
                yield chunk
    finally:
        await scanner.close()


class MergedFeed:
    """Reads given ranges of a task's inputs, one after the other; each input has a feed of its own."""

    def __init__(self, log: EventLog, task: int) -> None:
        self._log = log
        self._task = task
        self._feeds: dict[str, InputFeed] = {}

    async def read(self, ranges: Sequence[RangeOfInput]) -> list[Chunk]:
        """The records of `ranges`, in their order.

        Raises:
            InputGoneError: the log no longer has them.
        """
        wanted = joined(ranges)
        if len({topic for topic, _, _ in wanted}) < 2:
            return [chunk for topic, start, stop in wanted for chunk in await self._read(topic, start, stop)]
        bounds: dict[str, tuple[int, int]] = {}
        for topic, start, stop in wanted:
            bounds[topic] = (bounds.get(topic, (start, stop))[0], stop)
        found = {topic: _Cut(await self._read(topic, start, stop)) for topic, (start, stop) in bounds.items()}
        return [chunk for topic, _, stop in wanted for chunk in found[topic].until(stop)]

    async def _read(self, topic: str, start: int, stop: int) -> list[Chunk]:
        if topic not in self._feeds:
            self._feeds[topic] = InputFeed(self._log)
        return await self._feeds[topic].read(TopicPartition(topic, self._task), start, stop)

    async def close(self) -> None:
        for feed in self._feeds.values():
            await feed.close()


class _Cut:
    """Consecutive chunks of one partition, given out piece by piece."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = chunks
        self._chunk = self._row = 0

    def until(self, stop: int) -> Iterator[Chunk]:
        """What comes next, below the offset `stop`."""
        while self._chunk < len(self._chunks):
            chunk = self._chunks[self._chunk]
            row = bisect_left(chunk.offsets, stop, self._row)
            if row > self._row:
                yield rows_of(chunk, self._row, row)
            if row < len(chunk.offsets):
                self._row = row
                return
            self._chunk, self._row = self._chunk + 1, 0


class InputFeed:
    """Reads given ranges of the input, one after the other."""

    def __init__(self, log: EventLog) -> None:
        self._scanner = log.scanner()
        self._admin = log.admin()
        self._rest: list[Chunk] = []
        self._at: dict[TopicPartition, int] = {}

    async def read(self, tp: TopicPartition, start: int, stop: int) -> list[Chunk]:
        """The records start..stop.

        Raises:
            InputGoneError: the log no longer has them.
        """
        if start == stop:  # of a clock tick
            return []
        if self._at.get(tp) != start:
            await self._check_begin(tp, start)
            self._scanner.seek(tp, start)
            self._rest = []
        out: list[Chunk] = []
        at, silence = start, Silence(tp)
        while at < stop:
            if not self._rest:
                self._rest = await self._polled(tp, at)
                if not self._rest and self._scanner.position(tp) >= stop:
                    break
                silence.check(self._rest)
                continue
            chunk, rest = _until(self._rest.pop(0), stop)
            if rest is not None:
                self._rest.insert(0, rest)
            if chunk is not None:
                out.append(chunk)
            at = rest.offsets[0] if rest is not None else (chunk.next_offset if chunk else stop)
        self._at[tp] = stop
        return out

    async def _polled(self, tp: TopicPartition, at: int) -> list[Chunk]:
        try:
            return [chunk for chunk in await self._scanner.poll(POLL_MS) if chunk.tp == tp]
        except EventLogError:
            await self._check_begin(tp, at)  # retention goes on while a replay reads
            raise

    async def _check_begin(self, tp: TopicPartition, start: int) -> None:
        begin = (await self._admin.begin_offsets([tp]))[tp]
        if begin > start:
            raise InputGoneError(f"{tp.topic}[{tp.partition}]", begin, start)

    async def close(self) -> None:
        await self._scanner.close()


def _until(chunk: Chunk, stop: int) -> tuple[Chunk | None, Chunk | None]:
    """The part below `stop` and the rest."""
    rows = bisect_left(chunk.offsets, stop)
    if rows == 0:
        return None, chunk
    if rows == len(chunk.offsets):
        return chunk, None
    return split_chunk(chunk, rows)


def joined(ranges: Sequence[RangeOfInput]) -> list[RangeOfInput]:
    """The same input in the same order, in as few ranges as there are.

    >>> joined([RangeOfInput("t", 0, 2), RangeOfInput("t", 2, 5), RangeOfInput("t", 7, 8)])
    [RangeOfInput(topic='t', start=0, stop=5), RangeOfInput(topic='t', start=7, stop=8)]
    """
    out: list[RangeOfInput] = []
    for wanted in ranges:
        if out and (out[-1].topic, out[-1].stop) == (wanted.topic, wanted.start):
            out[-1] = RangeOfInput(wanted.topic, out[-1].start, wanted.stop)
        else:
            out.append(wanted)
    return out


def portions(
    chunks: Sequence[Chunk], rejected: Rejected, actions: bytes, rows: int
) -> Iterator[tuple[list[Chunk], bytes]]:
    """`chunks` in portions of at most `rows` records, each with the actions of its records; the last has what is left.

    There is one action for each record that is not `rejected`, and all come at once where there are fewer: rows came in
    parts. One portion, maybe empty, comes in any case.
    """
    records = sum(len(chunk.offsets) for chunk in chunks) - sum(map(len, rejected.values()))
    if len(actions) < records:
        yield list(chunks), actions
        return
    part: list[Chunk] = []
    room = rows
    rest = list(reversed(chunks))
    while rest:
        chunk = rest.pop()
        if room < len(chunk.offsets):
            if room:
                chunk, after = split_chunk(chunk, room)
                part.append(chunk)
                rest.append(after)
            else:
                rest.append(chunk)
            decided = sum(offset not in rejected.get(chunk.tp.topic, ()) for chunk in part for offset in chunk.offsets)
            yield part, actions[:decided]
            actions, part, room = actions[decided:], [], rows
        else:
            part.append(chunk)
            room -= len(chunk.offsets)
    yield part, actions


def ticked(
    parts: Iterable[tuple[list[Chunk], bytes]], tick: int | None
) -> Iterator[tuple[list[Chunk], bytes, int | None]]:
    """The portions, and behind them the clock tick of the last transaction, if it made one: a portion of its own."""
    for part, actions in parts:
        yield part, actions, None
    if tick is not None:
        yield [], b"", tick
