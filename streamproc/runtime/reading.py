"""Reading stretches of the log again, outside the group: every wait is bounded."""

from __future__ import annotations

__all__ = ["POLL_MS", "InputFeed", "Silence"]

from bisect import bisect_left

from state.errors import ConfigError, EventLogError
from streamproc.eventlog.contract import Chunk, EventLog, TopicPartition
from streamproc.runtime.collector import split_chunk

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
            ConfigError: the log no longer has them.
        """
        if self._at.get(tp) != start:
            begin = (await self._admin.begin_offsets([tp]))[tp]
            if begin > start:
                raise ConfigError(
                    f"{tp.topic}[{tp.partition}] begins at offset {begin}, but a replay needs {start}",
                    hint="restore the state directory from a copy, or start under a new pipeline name",
                )
            self._scanner.seek(tp, start)
            self._rest = []
        out: list[Chunk] = []
        at, silence = start, Silence(tp)
        while at < stop:
            if not self._rest:
                self._rest = [chunk for chunk in await self._scanner.poll(POLL_MS) if chunk.tp == tp]
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
