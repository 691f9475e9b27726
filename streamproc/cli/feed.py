"""`streamproc feed`: put files into a stream's topic, as a producer would."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.loops import run_async
from streamproc.cli.options import LogUrl, PipelineOption, load_plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from operators.plan import Plan
    from streamproc.cli.files import Piece
    from streamproc.cli.records import Key, Row
    from streamproc.eventlog.contract import Appender

_TICK_SECONDS = 0.005

EXAMPLES = (
    "streamproc feed transactions may.parquet --pipeline configs/pipeline.yaml --log file:.streamproc --rate 500",
)


def command(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The pipeline's stream to feed.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Parquet, CSV or NDJSON files, fed in order.")],
    pipeline: PipelineOption,
    log: LogUrl,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Records a second; as fast as it goes if not given.")
    ] = None,
) -> None:
    """Feed files into a stream.

    Each row becomes the JSON record that a producer would write, under the file's own column names; lines of NDJSON
    are passed on byte for byte. The partition is Kafka's for the key. Missing topics are created.
    """
    from streamproc.cli.files import check_stream, resolve_inputs

    plan = load_plan(pipeline)
    check_stream(stream, plan)
    run_async(_feed(plan, resolve_inputs(files, plan), log, rate))


async def _feed(plan: Plan, paths: Sequence[Path], log_url: str, rate: float | None) -> None:
    import asyncio

    from streamproc.cli.compose import open_log
    from streamproc.cli.progress import Progress
    from streamproc.runtime.topics import prepare_topics

    log = open_log(log_url)
    appender = None
    try:
        partitions = await prepare_topics(log, plan)
        appender = log.appender()
        sender = Sender(plan.stream.topic, partitions, appender, rate)
        total, done, skipped = sum(path.stat().st_size for path in paths), 0, 0
        with Progress(f"feed {plan.stream.name}", total) as progress:
            for path in paths:
                pieces = _pieces(path, plan)
                ahead = asyncio.create_task(asyncio.to_thread(next, pieces, None))
                while (piece := await ahead) is not None:
                    ahead = asyncio.create_task(asyncio.to_thread(next, pieces, None))
                    await sender.send(piece.rows, piece.keys)
                    skipped += len(piece.skipped)
                    progress.update(done + piece.progress, sender.sent)
                done += path.stat().st_size
        _tell(sender, skipped)
    finally:
        if appender is not None:
            await appender.close()
        await log.close()


def _pieces(path: Path, plan: Plan) -> Iterator[Piece]:
    from streamproc.cli.files import read_file

    return read_file(path, plan.stream)


def _tell(sender: Sender, skipped: int) -> None:
    speed = sender.sent / max(sender.seconds, 1e-9)
    text = f"fed {sender.sent:,} records in {sender.seconds:.1f} s ({speed:,.0f} a second)"
    if skipped:
        text += f"; {skipped:,} rows were no records and were skipped"
    sys.stderr.write(text + "\n")


class Sender:
    """Appends records to the partitions of their keys, all at once or at a steady rate.

    The rate is an open loop: record n is due n / rate seconds after the first, however long appends take.
    """

    def __init__(self, topic: str, partitions: int, appender: Appender, rate: float | None) -> None:
        from streamproc.clock import SystemClock

        self._topic = topic
        self._partitions = partitions
        self._appender = appender
        self._rate = rate
        self._clock = SystemClock()
        self._start = self._clock.monotonic()
        self.sent = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock.monotonic() - self._start

    async def send(self, rows: Sequence[Row], keys: Sequence[Key]) -> None:
        """Append all of them; returns when the log has them."""
        at = 0
        while at < len(rows):
            stop = len(rows) if self._rate is None else min(len(rows), at + await self._due(self._rate))
            await self._append(rows[at:stop], keys[at:stop])
            self.sent += stop - at
            at = stop

    async def _due(self, rate: float) -> int:
        """Wait until records are due; how many."""
        while (due := int(self.seconds * rate) + 1 - self.sent) <= 0:
            await self._clock.sleep(max(_TICK_SECONDS, self.sent / rate - self.seconds))
        return due

    async def _append(self, rows: Sequence[Row], keys: Sequence[Key]) -> None:
        import numpy as np

        from state.hashing import partitions_of
        from streamproc.eventlog.contract import OutputRecords, TopicPartition

        places = partitions_of([key or b"" for key in keys], self._partitions)
        if None in keys:
            places[[i for i, key in enumerate(keys) if key is None]] = 0
        now_ms = self._clock.now_ms()
        outputs = []
        for partition in np.unique(places).tolist():
            mine = np.flatnonzero(places == partition).tolist()
            tp = TopicPartition(self._topic, partition)
            outputs.append(OutputRecords(tp, [keys[i] for i in mine], [rows[i] for i in mine], now_ms))
        await self._appender.append(outputs)
