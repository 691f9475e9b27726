"""A service, asked within its bounds. The shell around cache, breaker and budget; whoever sends is handed in."""

from __future__ import annotations

__all__ = ["CallError", "Service", "Transport"]

import asyncio
import re
from typing import Any, Protocol

import structlog

from operators.call import CallSpec
from operators.plan import ARRIVED
from streamproc.calls.answer import AnswerReader, BadAnswerError
from streamproc.calls.limits import AnswerCache, Breaker, RetryBudget, UsualTime
from streamproc.calls.metrics import CallMetrics
from streamproc.calls.request import Query, Request, writer_of
from streamproc.clock import Clock

_CAME = re.compile(rb',"%b":(\d+)' % ARRIVED.encode())
"""In a text of JSON a quote is escaped: this is a member."""
_RETRY_PAUSE_SHARE, _RETRY_PAUSE_MAX_SECONDS = 0.1, 0.05


class CallError(Exception):
    """A call failed. `reason`: a short stable word. `retriable`: another attempt may help. `well`: the service works,
    but does not take this request. Never holds what was sent or replied.
    """

    def __init__(self, reason: str, *, retriable: bool = False, well: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retriable, self.well = reason, retriable, well


class Transport(Protocol):
    """Sends requests. Takes care of no bound but the size of a reply."""

    async def send(self, request: Any) -> bytes | None:
        """The reply; None: there is nothing under what was asked. `request`: of the kind that it is made for.

        Raises:
            CallError: there is none, or not a good one.
        """
        ...

    async def close(self) -> None: ...


class _Call:
    """A call that is to be made, or under way. `record`: the last of those that it is for."""

    __slots__ = ("record", "request")

    def __init__(self, request: Request | Query, record: bytes) -> None:
        self.request, self.record = request, record


class Service:
    """Answers the records of one call step. Each answer is the members that are added to the record."""

    def __init__(self, spec: CallSpec, transport: Transport, clock: Clock, metrics: CallMetrics) -> None:
        self._spec, self._transport, self._clock, self._metrics = spec, transport, clock, metrics
        self._requests, self._answers = writer_of(spec.asks), AnswerReader(spec)
        self._cache = AnswerCache(spec.cache_ms / 1000) if spec.cache_ms else None
        self._breaker, self._budget = Breaker(spec.breaking), RetryBudget(spec.retry_budget)
        self._slots, self._usual = asyncio.Semaphore(spec.in_flight), UsualTime()
        self._asked: dict[bytes, tuple[_Call, asyncio.Task[bytes]]] = {}
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._logger = structlog.get_logger("call").bind(call=spec.name)

    def answer(self, record: bytes | None) -> bytes | asyncio.Future[bytes]:
        """The answer, or what will be it after `timeout_ms` at most: it never fails. Of equal requests at a time one is
        sent, with a cache.

        A record that no stage has handed on gets none: the next stage says what is wrong with it.
        """
        try:
            request = self._requests.write(record or b"")
        except ValueError:
            return b""
        if request is None:
            return self._told("nothing_to_ask", self._answers.nothing)
        record = record or b""
        if self._is_late(record):
            return self._told("past_deadline", self._answers.default)
        now = self._clock.monotonic()
        digest = None
        if self._cache is not None:
            digest = request.digest
            if (known := self._cache.get(digest, now)) is not None:
                return self._told("cached", known)
            if (asked := self._asked.get(digest)) is not None:
                asked[0].record = record
                self._metrics.count("shared")
                return asked[1]
        if self._breaker.blocks(now):
            return self._told("breaker_open", self._answers.default)
        return self._begin(_Call(request, record), digest)

    def waiting(self, rows: int) -> None:
        """So many rows are read and not handed on."""
        self._metrics.waiting.set(rows)

    async def close(self) -> None:
        """End what is in flight."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()

    def _is_late(self, record: bytes) -> bool:
        """Whether a stand-in has answered by now. The record says what follows from it, so that no replay asks."""
        if not self._spec.deadline_ms:
            return False
        found = _CAME.search(record)
        return found is not None and int(found[1]) + self._spec.deadline_ms < self._clock.now_ms()

    def _told(self, result: str, members: bytes) -> bytes:
        self._metrics.count(result)
        return members

    def _begin(self, call: _Call, digest: bytes | None) -> asyncio.Task[bytes]:
        task = asyncio.get_running_loop().create_task(self._asking(call, digest), name=f"call {self._spec.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if digest is not None:
            self._asked[digest] = (call, task)
            task.add_done_callback(lambda _: self._asked.pop(digest))
        return task

    async def _asking(self, call: _Call, digest: bytes | None) -> bytes:
        waits, until = self._slots.locked(), self._clock.monotonic() + self._spec.timeout_ms / 1000
        if waits and not await self._slot(until):
            return self._told("busy", self._answers.default)
        if not waits:
            await self._slots.acquire()
        try:
            if self._is_late(call.record):
                return self._told("past_deadline", self._answers.default)
            ticket = self._breaker.admit(self._clock.monotonic())
            if ticket is None:
                return self._told("breaker_open", self._answers.default)
            result, members = await self._asked_in_time(call.request, ticket, until, waits)
        finally:
            self._slots.release()
        if self._cache is not None and digest is not None and result == "answered":
            self._cache.put(digest, members, self._clock.monotonic())
        return self._told(result, members)

    async def _slot(self, until: float) -> bool:
        """Wait for one; whether it came while there was as much time left as a call usually takes: else it would be of
        no use to the row, and keep others from theirs. Who need not wait is always asked about: that shows what is
        usual.
        """
        try:
            async with asyncio.timeout(max(self._patience(until), 0.0)):
                await self._slots.acquire()
        except TimeoutError:
            return False
        if self._patience(until) >= 0:
            return True
        self._slots.release()
        return False

    def _patience(self, until: float) -> float:
        return until - self._clock.monotonic() - self._usual.seconds

    async def _asked_in_time(
        self, request: Request | Query, ticket: int, until: float, waited: bool
    ) -> tuple[str, bytes]:
        """How the call ended, and what the row has of it. That little time was left is not the service's fault."""
        began, result, well, members = self._clock.monotonic(), "", None, self._answers.default
        self._metrics.in_flight.inc()
        try:
            async with asyncio.timeout(until - began):
                members = await self._attempts(request)
            result, well = "answered", True
        except TimeoutError:
            result, well = "timeout", None if waited else False
            self._usual.took(self._spec.timeout_ms / 1000)  # at least: it was cut off
        except BadAnswerError:
            result, well = "bad_answer", False
        except CallError as error:
            result, well = error.reason, error.well
        except Exception as error:  # a client has more ways to fail than it says: they concern this row only
            self._logger.error("a call failed in an unknown way", error=type(error).__name__)
            result, well = "failed", False
        finally:
            now = self._clock.monotonic()
            self._metrics.in_flight.dec()
            self._settle(ticket, well, now)
        self._metrics.seconds.observe(now - began)
        if well:
            self._usual.took(now - began)
        return result, members

    async def _attempts(self, request: Request | Query) -> bytes:
        """The first good answer. Raises CallError or BadAnswerError of the last attempt."""
        self._budget.called()
        for left in range(self._spec.retries, -1, -1):
            try:
                reply = await self._transport.send(request)
                return self._answers.nothing if reply is None else self._answers.read(reply)
            except CallError as error:
                if not left or not error.retriable or not self._budget.take():
                    raise
            self._metrics.retries.inc()
            pause = _RETRY_PAUSE_SHARE * self._spec.timeout_ms / 1000
            await self._clock.sleep(min(pause, _RETRY_PAUSE_MAX_SECONDS))
        raise AssertionError("the last attempt returns or raises")

    def _settle(self, ticket: int, well: bool | None, now: float) -> None:
        before = self._breaker.is_closed
        self._breaker.settle(ticket, well, now)
        if self._breaker.is_closed is before:
            return
        self._metrics.breaker_open.set(before)
        if before:
            self._logger.warning(
                "calls fail: the service is left alone for a while", seconds=self._spec.breaking.pause_ms / 1000
            )
        else:
            self._logger.info("the service answers again")
