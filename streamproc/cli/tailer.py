"""What `tail` does: a topic's committed records to stdout."""

from __future__ import annotations

__all__ = ["tail"]

import asyncio
import select
import sys
from collections.abc import Sequence

from msgspec.structs import replace

from operators.plan import Plan
from streamproc.cli.compose import open_log
from streamproc.cli.loops import until_signal
from streamproc.cli.stdout import writing_stdout
from streamproc.cli.topic_lines import Lines, topic_lines
from streamproc.eventlog.contract import Chunk, EventLog, TopicPartition

_POLL_MS = 200
_WAIT_SECONDS = 0.2


async def tail(plans: Sequence[Plan], topic: str, log_url: str, *, from_start: bool, until_end: bool) -> None:
    """Print records until a signal, or to what is the end now.

    Raises:
        ConfigError: the pipeline has no such topic.
        EventLogError: the log failed.
        BrokenPipeError: nobody reads stdout any more.
    """
    name, lines = topic_lines(topic, plans)
    log = open_log(log_url)
    try:
        await until_signal(_copy(log, name, lines, from_start or until_end, until_end))
    finally:
        await log.close()


async def _copy(log: EventLog, topic: str, lines: Lines, from_start: bool, until_end: bool) -> None:
    partitions = await _partitions(log, topic, until_end)
    ends = await log.admin().end_offsets(partitions)
    begins = await log.admin().begin_offsets(partitions) if from_start else ends
    scanner = log.scanner()
    left = {tp for tp in partitions if begins[tp] < ends[tp]} if until_end else set(partitions)
    for tp in partitions:  # in their order: the same log is printed alike each time
        if tp in left:
            scanner.seek(tp, begins[tp])
    try:
        while left:
            chunks = await scanner.poll(_POLL_MS)
            for chunk in chunks:
                await _print(lines(_before(chunk, ends[chunk.tp]) if until_end else chunk))
            if not chunks and _reader_is_gone():
                return
            if until_end:
                left = {tp for tp in left if scanner.position(tp) < ends[tp]}
    finally:
        await scanner.close()


async def _partitions(log: EventLog, topic: str, until_end: bool) -> list[TopicPartition]:
    """The topic's partitions; a missing topic is waited for, or is empty."""
    told = False
    while not (count := await log.admin().partitions(topic)):
        if not told:
            makers = "`run` and `feed` make it, and `explain-decisions` that of explanations"
            await asyncio.to_thread(sys.stderr.write, f"the log has no topic {topic} yet: {makers}\n")
            told = True
        if until_end:
            break
        await asyncio.sleep(_WAIT_SECONDS)
    return [TopicPartition(topic, p) for p in range(count)]


def _before(chunk: Chunk, end: int) -> Chunk:
    """The chunk without what came after `tail` began."""
    keep = sum(offset < end for offset in chunk.offsets)
    if keep == len(chunk.offsets):
        return chunk
    headers = chunk.headers and chunk.headers[:keep]
    keys, values = chunk.keys[:keep], chunk.values[:keep]
    return replace(chunk, offsets=chunk.offsets[:keep], keys=keys, values=values, headers=headers)


async def _print(lines: Sequence[bytes]) -> None:
    """In a thread: a slow reader must not keep signals from us."""
    if lines:
        await asyncio.to_thread(_write, b"\n".join(lines) + b"\n")


def _write(text: bytes) -> None:
    with writing_stdout():
        sys.stdout.buffer.write(text)


def _reader_is_gone() -> bool:
    """Whether the other end of a pipe was closed: `tail ... | head -1` must end without another record."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLERR)
    except (AttributeError, OSError):  # a system without poll; a stdout without a file
        return False
    return bool(poll.poll(0))
