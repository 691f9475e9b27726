"""The transaction: one micro-batch of all tasks of a worker, all or nothing.

    1. collect; announce what will be written, so that the log's answer comes while 2-4 compute     collector.py
    2. decode, one call a record                      rows.py, operators/decode.py
    3. the plan's steps, keeping before-images        engine.py
    4. encode decisions, dead letters, journal        engine.py
    5. begin, produce all, send offsets fenced by the membership of the assignment
    6. check every delivery
    7. commit
    8. publish: before-images dropped, positions advanced, dirty rows may be flushed     worker.py

A failure in 5-7 leaves the outcome open. `settle` finds it out: the old producer is discarded, a new one takes over
the transactional id (which ends the old transaction), and the stable offset fetch says whether N's end is there.
"""

from __future__ import annotations

__all__ = ["COMPUTED", "Probe", "TransactionProtocol"]

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from state.errors import EventLogError, FencedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import (
    CommittedOffset,
    GroupReader,
    Membership,
    OutputRecords,
    Place,
    TopicPartition,
    TransactionalWriter,
)

R = TypeVar("R")
Probe = Callable[[int], None]
"""Fault point: called with a step's number just before that step, and with `COMPUTED` after step 4."""
COMPUTED = 0

_REQUEST_SECONDS = 0.0003
"""So long a log's client takes at most to send a request."""
_SETTLE_SECONDS = 60.0
_BACKOFF_FIRST_SECONDS = 0.02
_BACKOFF_MAX_SECONDS = 1.0


class TransactionProtocol:
    """Steps 5-7 on one transactional id. Owns the writer and replaces it after any failure."""

    def __init__(self, new_writer: Callable[[], TransactionalWriter], clock: Clock, probe: Probe | None = None) -> None:
        self._new_writer = new_writer
        self._clock = clock
        self._probe = probe
        self._writer: TransactionalWriter | None = None
        self._begun = False
        self._sent: asyncio.Future[None] | None = None
        self._ending: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Take over the transactional id; an orphan of a dead predecessor is settled by it.

        Raises:
            EventLogError: the log stayed unreachable.
        """
        await self.retried(self._reopen)

    async def announce(self, expected: Sequence[TopicPartition], membership: Membership) -> None:
        """Begin ahead of `run`, which goes on from here and tells what fails.

        Raises:
            FencedError: another process has our identity.
        """
        if self._writer is None or self._begun:
            return
        self._begun = True
        try:
            await self._writer.begin(expected, membership)
        except FencedError:
            raise
        except EventLogError:
            self._begun = False  # `run` meets it again

    def place(self, tp: TopicPartition) -> Place | None:
        """See `TransactionalWriter.place`."""
        return None if self._writer is None else self._writer.place(tp)

    async def withdraw(self) -> None:
        """Nothing follows what was announced."""
        if self._begun:
            await self.open()

    def start(
        self,
        outputs: Sequence[OutputRecords],
        offsets: Mapping[TopicPartition, CommittedOffset],
        membership: Membership,
    ) -> asyncio.Future[dict[TopicPartition, int]]:
        """`run` beside whatever else is done; see also `sent` and `ending`."""
        loop = asyncio.get_running_loop()
        self._sent, self._ending = sent, ending = loop.create_future(), loop.create_future()
        run = asyncio.ensure_future(self.run(outputs, offsets, membership))
        for one in (sent, ending):
            run.add_done_callback(partial(_end, one))
        return run

    async def run(
        self,
        outputs: Sequence[OutputRecords],
        offsets: Mapping[TopicPartition, CommittedOffset],
        membership: Membership,
    ) -> dict[TopicPartition, int]:
        """Steps 5-7; the offset of the last record appended to each partition.

        Raises:
            FencedError: another process has our identity: exit.
            EventLogError: anything else; the outcome is open: call `settle`.
        """
        writer = self._writer
        assert writer is not None, "open() first"
        self._at(5)
        if not self._begun:
            await writer.begin([output.tp for output in outputs], membership)
        self._begun = False
        await writer.append(outputs)
        if self._sent is not None:
            _end(self._sent)
        await writer.offsets(offsets, membership)
        self._at(6)
        ends = await writer.delivered()
        self._at(7)
        if self._ending is not None:
            asyncio.get_running_loop().call_later(_REQUEST_SECONDS, _end, self._ending)
        await writer.commit()
        self._at(8)
        return ends

    @property
    def ending(self) -> asyncio.Future[None]:
        """Done once the commit of what was started is on its way, and nothing left to do but to wait for it; or it has
        failed.
        """
        assert self._ending is not None, "start() first"
        return self._ending

    @property
    def sent(self) -> asyncio.Future[None]:
        """Done once the records of what was started are on their way, or it has failed: from then on `place` speaks of
        the next transaction.
        """
        assert self._sent is not None, "start() first"
        return self._sent

    async def settle(self, offsets: Mapping[TopicPartition, CommittedOffset], reader: GroupReader) -> bool:
        """After a failure in 5-7: whether the transaction is committed after all.

        Raises:
            FencedError: a newer owner exists.
            EventLogError: the log stayed unreachable for a minute.
        """

        async def attempt() -> bool:
            await self._reopen()
            found = await reader.committed(list(offsets))
            return all(found.get(tp) == expected for tp, expected in offsets.items())

        return await self.retried(attempt)

    async def close(self) -> None:
        """Give the writer up; an open transaction is aborted by the next owner or by its time-out."""
        if self._writer is not None:
            await self._writer.abandon()
            self._writer = None

    async def _reopen(self) -> None:
        await self.close()
        self._begun = False
        writer = self._new_writer()
        self._writer = writer
        await writer.open()

    async def retried(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """The result of `attempt`, tried again for a minute while the log fails for a moment."""
        deadline = self._clock.monotonic() + _SETTLE_SECONDS
        pause = _BACKOFF_FIRST_SECONDS
        while True:
            try:
                return await attempt()
            except FencedError:
                raise
            except EventLogError as error:
                if not error.retriable or self._clock.monotonic() > deadline:
                    raise
            await self._clock.sleep(pause)
            pause = min(2 * pause, _BACKOFF_MAX_SECONDS)

    def _at(self, step: int) -> None:
        if self._probe is not None:
            self._probe(step)


def _end(one: asyncio.Future[None], _: object = None) -> None:
    if not one.done():
        one.set_result(None)
