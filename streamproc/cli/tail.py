"""`streamproc tail`: what a topic holds, as NDJSON on stdout."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from state.errors import ConfigError
from streamproc.cli.loops import leaving_quietly, run_async
from streamproc.cli.options import LogUrl, PipelineOption, load_plan

if TYPE_CHECKING:
    from operators.plan import Plan
    from streamproc.eventlog.contract import Chunk, EventLog, Headers, TopicPartition

_POLL_MS = 200
_WAIT_SECONDS = 0.2
Lines = Callable[["Chunk"], "Sequence[bytes]"]

EXAMPLES = ("streamproc tail decisions --pipeline configs/pipeline.yaml --log file:.streamproc --from-start",)


def command(
    topic: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC",
            help="decisions, dead_letters, features, journal, or the name of a side output or of an input stream.",
        ),
    ],
    pipeline: PipelineOption,
    log: LogUrl,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest record.")] = False,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at what is there now (implies --from-start), instead of waiting.")
    ] = False,
) -> None:
    """Print a topic's committed records as JSON lines, and wait for more.

    `features` are all features of each decision, read from the journal's blocks; `journal` says what each
    transaction did.
    """
    with leaving_quietly():
        name, lines = _resolve(topic, load_plan(pipeline))
        run_async(_tail(name, lines, log, from_start or until_end, until_end))


def _resolve(topic: str, plan: Plan) -> tuple[str, Lines]:
    """The topic's full name and how its records become lines."""
    topics = plan.topics
    known: dict[str, tuple[str, Lines]] = {
        "decisions": (topics.decisions, _values),
        "dead_letters": (topics.dead_letters, _values),
        "journal": (topics.journal, _journal),
        "features": (topics.journal, _features),
        plan.stream.name: (plan.stream.topic, _input),
    }
    for name, full in topics.side.items():
        known.setdefault(name, (full, _values))
    if topic in known:
        return known[topic]
    for full, lines in known.values():
        if topic == full:
            return full, lines
    from streamproc.language.problems import nearest

    raise ConfigError(f"the pipeline {plan.pipeline} has no topic {topic}", hint=nearest(topic, known))


async def _tail(topic: str, lines: Lines, log_url: str, from_start: bool, until_end: bool) -> None:
    import asyncio
    import signal

    from streamproc.cli.compose import open_log

    log = open_log(log_url)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    copying = asyncio.create_task(_copy(log, topic, lines, from_start, until_end))
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([copying, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        copying.cancel()
        result = (await asyncio.gather(copying, return_exceptions=True))[0]
        await log.close()
    if isinstance(result, Exception):
        raise result


async def _copy(log: EventLog, topic: str, lines: Lines, from_start: bool, until_end: bool) -> None:
    partitions = await _partitions(log, topic, until_end)
    ends = await log.admin().end_offsets(partitions)
    begins = await log.admin().begin_offsets(partitions) if from_start else ends
    scanner = log.scanner()
    left = {tp for tp in partitions if begins[tp] < ends[tp]} if until_end else set(partitions)
    for tp in left:
        scanner.seek(tp, begins[tp])
    try:
        while left:
            chunks = await scanner.poll(_POLL_MS)
            for chunk in chunks:
                _write(lines(_before(chunk, ends[chunk.tp]) if until_end else chunk))
            if not chunks and _reader_is_gone():
                return
            if until_end:
                left = {tp for tp in left if scanner.position(tp) < ends[tp]}
    finally:
        await scanner.close()


async def _partitions(log: EventLog, topic: str, until_end: bool) -> list[TopicPartition]:
    """The topic's partitions; a missing topic is waited for, or is empty."""
    import asyncio

    from streamproc.eventlog.contract import TopicPartition

    told = False
    while not (count := await log.admin().partitions(topic)):
        if not told:
            sys.stderr.write(f"the log has no topic {topic} yet: `run` and `feed` create it\n")
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
    from msgspec.structs import replace

    headers = chunk.headers and chunk.headers[:keep]
    return replace(chunk, offsets=chunk.offsets[:keep], values=chunk.values[:keep], headers=headers)


def _write(lines: Sequence[bytes]) -> None:
    if lines:
        out = sys.stdout.buffer
        out.write(b"\n".join(lines) + b"\n")
        out.flush()


def _reader_is_gone() -> bool:
    """Whether the other end of a pipe was closed: `tail ... | head -1` must end without another record."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLERR)
    except (AttributeError, OSError):  # a system without poll; a stdout without a file
        return False
    return bool(poll.poll(0))


# ---- records -> lines


def _values(chunk: Chunk) -> Sequence[bytes]:
    return [value for value in chunk.values if value]


def _input(chunk: Chunk) -> Sequence[bytes]:
    """A stream's records as they are; one that would break the lines is shown as {"not_json": its text}."""
    import msgspec

    lines = []
    for value in chunk.values:
        try:
            msgspec.json.decode(value or b"null")
            lines.append(value if value and b"\n" not in value else msgspec.json.format(value or b"null", indent=-1))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = (value or b"").decode("utf-8", "backslashreplace")
            lines.append(msgspec.json.encode({"not_json": text}))
    return lines


def _features(chunk: Chunk) -> Sequence[bytes]:
    """The rows of the journal's feature blocks, with the partition that `offset` belongs to."""
    from operators.block import block_records, read_block
    from operators.encode import json_encoder

    partition = chunk.tp.partition
    lines = []
    for block in chunk.values:
        if block:
            rows = block_records(read_block(block))
            lines += [json_encoder.encode({**row, "partition": partition}) for row in rows]
    return lines


def _journal(chunk: Chunk) -> Sequence[bytes]:
    headers = chunk.headers or [[] for _ in chunk.offsets]
    return [_entry(offset, given) for offset, given in zip(chunk.offsets, headers, strict=True)]


def _entry(offset: int, headers: Headers) -> bytes:
    import msgspec

    from streamproc.runtime.journal import decode_entry

    entry, _, chain = decode_entry(headers)
    shown = {
        "task": entry.task,
        "sequence": entry.sequence,
        "offset": offset,
        "ranges": [part._asdict() for part in entry.ranges],
        "records": len(entry.actions) + len(entry.rejected),
        "decided": len(entry.actions) - len(entry.duplicates),
        "duplicates": len(entry.duplicates),
        "rejected": len(entry.rejected),
        "state_fingerprint": entry.state_fingerprint,
        "decision_fingerprint": entry.decision_fingerprint,
        "numerics": entry.numerics,
        "exact": entry.exact.hex(),
        "output": entry.output.hex(),
        "block": entry.block.hex(),
        "chain": chain.hex(),
    }
    return msgspec.json.encode(shown)
