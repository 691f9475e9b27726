"""What `feed` does: files -> records -> partitions of a stream's topic."""

from __future__ import annotations

__all__ = ["Fed", "Sender", "feed"]

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from operators.plan import Plan
from operators.schema import StreamSchema
from state.errors import StreamprocError
from state.hashing import partitions_of
from streamproc.cli.compose import open_log
from streamproc.cli.files import Piece, read_file
from streamproc.cli.records import Key, Row
from streamproc.cli.refusals import Sampler
from streamproc.clock import Clock, SystemClock
from streamproc.eventlog.contract import Appender, OutputRecords, TopicPartition
from streamproc.runtime.topics import prepare_topics

_TICK_SECONDS = 0.005


class Fed(NamedTuple):
    """What was sent; `skipped` rows were no records; `warning`: lines on what will surprise, else nothing.

    `rows`: how far it came, in rows of all files together, whether they were left out, sent or no records.
    """

    records: int
    skipped: int
    seconds: float
    warning: str
    rows: int

    def text(self) -> str:
        """One line, and the warning."""
        text = f"fed {self.records:,} records in {self.seconds:.1f} s ({self.records / max(self.seconds, 1e-9):,.0f}/s)"
        text += f"; skipped {self.skipped:,} rows that are no records" if self.skipped else ""
        return f"{text}\n{self.warning}"

    def broken_off(self, stream: StreamSchema) -> str:
        """What to know before feeding the same files again."""
        again = f"go on with --skip {self.rows}"
        if stream.deduplicate_ms:
            again += f" (what comes again is known by its {stream.id} for as long as `deduplicate:` says)"
        return f"broken off: {self.records:,} records went in, perhaps some more; {again}\n{self.warning}"


async def feed(
    plans: Sequence[Plan],
    stream: StreamSchema,
    sizes: Mapping[Path, int],
    log_url: str,
    *,
    rate: float | None,
    skip: int,
    progress: Callable[[int, int], None],
    partitions: int | None = None,
) -> Fed:
    """Append the records of the files (with their sizes in bytes), in order, but not of the first `skip` rows.

    `partitions`: how many were asked for; a warning says if the topics have others.

    Raises:
        ConfigError: a file cannot be read.
        EventLogError: the log failed; what was appended before stays.
    """
    log = open_log(log_url)
    try:
        found = await prepare_topics(log, *plans)
        if partitions not in (None, found):
            sys.stderr.write(f"warning: --partitions {partitions}: the topics are there already, with {found} each\n")
        ends = await log.admin().end_offsets([TopicPartition(stream.topic, place) for place in range(found)])
        sender = Sender(stream.topic, found, log.appender(), SystemClock(), rate)
        job = await asyncio.to_thread(_Feed, stream, sender, skip)
        try:
            await job.run(sizes, progress)
        except (asyncio.CancelledError, StreamprocError):
            sys.stderr.write(job.fed(again=True).broken_off(stream))
            raise
        finally:
            await sender.close()
        return job.fed(again=any(ends.values()))
    finally:
        await log.close()


class _Feed:
    """Sends files piece by piece, and knows at which row it stands."""

    def __init__(self, stream: StreamSchema, sender: Sender, skip: int) -> None:
        self._schema = stream
        self._sender = sender
        self._sampler = Sampler(stream)
        self._skip = skip
        self._skipped = 0
        self._before = 0  # rows of the files before this one
        self._last = 0  # the row of this file that its last piece ends with
        self._piece: Piece | None = None
        self._sent_before = 0  # records that went in before the piece

    async def run(self, sizes: Mapping[Path, int], progress: Callable[[int, int], None]) -> None:
        """Send all of them; the next piece is read meanwhile."""
        done = 0
        for path, size in sizes.items():
            pieces = read_file(path, self._schema)
            ahead = asyncio.create_task(asyncio.to_thread(next, pieces, None))
            while (read := await ahead) is not None:
                ahead = asyncio.create_task(asyncio.to_thread(next, pieces, None))
                self._last, self._sent_before = max(self._last, read.last), self._sender.sent
                piece = self._piece = read.after(self._skip - self._before)
                await self._sender.send(piece.rows, piece.keys)
                self._skipped += len(piece.skipped)
                look = partial(self._sampler.add, piece.rows, piece.skipped, self._sender.now_ms)
                if self._schema.format == "avro":  # it may have to fetch schemas
                    await asyncio.to_thread(look)
                else:
                    look()
                progress(done + piece.progress, self._sender.sent)
            self._before, self._last, self._piece = self._before + self._last, 0, None
            done += size

    def fed(self, *, again: bool) -> Fed:
        """What went in until now; `again`: what it went to has, or will get, some of it twice, perhaps."""
        sender, warning = self._sender, self._sampler.warning(again=again)
        return Fed(sender.sent, self._skipped, sender.seconds, warning, self._row())

    def _row(self) -> int:
        """Rows, from the first one, behind which a new start would go on."""
        last, sent = self._last, self._sender.sent - self._sent_before
        if self._piece is not None and sent < len(self._piece.rows):
            last = self._piece.numbers[sent] - 1
        return max(self._skip, self._before + last)


class Sender:
    """Appends records to the partitions of their keys, all at once or at a steady rate.

    The rate is an open loop: record n is due n / rate seconds after the start, however long appends take.
    """

    def __init__(self, topic: str, partitions: int, appender: Appender, clock: Clock, rate: float | None) -> None:
        self._topic = topic
        self._partitions = partitions
        self._appender = appender
        self._clock = clock
        self._rate = rate
        self._start = clock.monotonic()
        self.sent = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock.monotonic() - self._start

    @property
    def now_ms(self) -> int:
        """The time that records get."""
        return self._clock.now_ms()

    async def send(self, rows: Sequence[Row | None], keys: Sequence[Key]) -> None:
        """Append all of them; returns when the log has them."""
        at = 0
        while at < len(rows):
            stop = len(rows) if self._rate is None else min(len(rows), at + await self._due(self._rate))
            await self._append(rows[at:stop], keys[at:stop])
            self.sent += stop - at
            at = stop

    async def close(self) -> None:
        """Stop sending."""
        await self._appender.close()

    async def _due(self, rate: float) -> int:
        """Wait until records are due; how many."""
        while (due := int(self.seconds * rate) + 1 - self.sent) <= 0:
            await self._clock.sleep(max(_TICK_SECONDS, self.sent / rate - self.seconds))
        return due

    async def _append(self, rows: Sequence[Row | None], keys: Sequence[Key]) -> None:
        """Records without a key are no record that can be decided: the first partition takes them."""
        places = partitions_of([key or b"" for key in keys], self._partitions)
        if None in keys:
            places[[i for i, key in enumerate(keys) if key is None]] = 0
        now_ms = self.now_ms
        outputs = []
        for partition in np.unique(places).tolist():
            mine = np.flatnonzero(places == partition).tolist()
            tp = TopicPartition(self._topic, partition)
            outputs.append(OutputRecords(tp, [keys[i] for i in mine], [rows[i] for i in mine], now_ms))
        await self._appender.append(outputs)
