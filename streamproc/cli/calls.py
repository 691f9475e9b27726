"""Calls out, put together: the callers of a worker, and who answers in a backtest."""

from __future__ import annotations

__all__ = ["Answers", "LiveCalls", "beside", "declared_defaults", "given_answers", "make_callers"]

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from operators.call import CallSpec, SqlQuery
from operators.handoff import joined
from operators.plan import Plan, calls_of
from streamproc.clock import Clock, SystemClock

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from prometheus_client import CollectorRegistry

    from streamproc.calls.metrics import CallRegistry
    from streamproc.calls.service import Service, Transport
    from streamproc.eventlog.contract import EventLog
    from streamproc.runtime.caller import Caller
    from streamproc.runtime.settings import WorkerSettings

Answers = Callable[[CallSpec, Sequence[int], Sequence[bytes]], list[bytes]]
"""Records that a stage has handed on, and their places in the file -> the records with their answers."""


class Runs(Protocol):
    """What runs until it is told to stop, or to its own end."""

    async def run(self) -> None: ...
    def stop(self) -> None: ...


def make_callers(
    plans: Sequence[Plan], log: EventLog, settings: WorkerSettings, stack: AsyncExitStack, *, clock: Clock,
    registry: CollectorRegistry,
) -> list[Caller]:  # fmt: skip
    """One for each call step of a pipeline; their connections last until `stack` ends.

    Raises:
        ConfigError: a header names an environment variable that is not set.
    """
    specs = calls_of(plans)
    if not specs:
        return []
    from streamproc.calls.metrics import CallRegistry
    from streamproc.runtime.caller import Caller

    metrics, callers = CallRegistry(registry), []
    for spec in specs:
        service = _service(spec, clock, metrics)
        stack.push_async_callback(service.close)
        callers.append(Caller(spec, plans, log, service, clock=clock, settings=settings))
    return callers


async def beside(worker: Runs, callers: Sequence[Runs]) -> None:
    """Run all until the worker ends; a caller that fails ends it, and its error is raised."""
    running = [asyncio.ensure_future(caller.run()) for caller in callers]
    for one in running:
        one.add_done_callback(lambda _: worker.stop())
    try:
        await worker.run()
    finally:
        for caller in callers:
            caller.stop()
        ended = await asyncio.gather(*running, return_exceptions=True)
    for found in ended:
        if found is not None:
            raise found


def declared_defaults(spec: CallSpec, places: Sequence[int], records: Sequence[bytes]) -> list[bytes]:
    """`Answers` as if the service were not there."""
    return _scripted(spec, places, records, lambda _: {})


def given_answers(said: Sequence[Mapping[str, Any]]) -> Answers:
    """`Answers` by the place of a record; the defaults where nothing of what the service returns is said."""
    return lambda spec, places, records: _scripted(spec, places, records, said.__getitem__)


def _scripted(
    spec: CallSpec, places: Sequence[int], records: Sequence[bytes], said: Callable[[int], Mapping[str, Any]]
) -> list[bytes]:
    from streamproc.calls.answer import AnswerReader
    from streamproc.calls.request import writer_of

    requests, answers = writer_of(spec.asks), AnswerReader(spec)
    names = {field.name for field in spec.returns}

    def members(place: int, record: bytes) -> bytes:
        if not names.isdisjoint(values := said(place)):
            return answers.given(values)
        return answers.nothing if requests.write(record) is None else answers.default

    return [joined(record, members(place, record)) for place, record in zip(places, records, strict=True)]


class LiveCalls:
    """`Answers` that ask the services; a context manager, not for a thread that has a running loop."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        from streamproc.calls.metrics import CallRegistry

        self._runner = asyncio.Runner()
        self._services: dict[str, Service] = {}
        self._metrics = CallRegistry(CollectorRegistry())

    def __enter__(self) -> LiveCalls:
        self._runner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._runner.run(self._close())
        self._runner.__exit__(*error)

    def __call__(self, spec: CallSpec, places: Sequence[int], records: Sequence[bytes]) -> list[bytes]:
        return self._runner.run(self._answered(spec, records))

    async def _answered(self, spec: CallSpec, records: Sequence[bytes]) -> list[bytes]:
        service = self._services.get(spec.name) or self._open(spec)
        answers: list[bytes | asyncio.Future[bytes]] = []
        asked: set[asyncio.Future[bytes]] = set()
        for record in records:
            if len(asked) >= spec.in_flight:  # the time-out is for the call: nobody waits for a slot, there is time
                _, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            answers.append(answer := service.answer(record))
            if isinstance(answer, asyncio.Future):
                asked.add(answer)
        await asyncio.gather(*asked)
        members = [answer if isinstance(answer, bytes) else answer.result() for answer in answers]
        return list(map(joined, records, members))

    def _open(self, spec: CallSpec) -> Service:
        return self._services.setdefault(spec.name, _service(spec, SystemClock(), self._metrics))

    async def _close(self) -> None:
        for service in self._services.values():
            await service.close()


def _service(spec: CallSpec, clock: Clock, metrics: CallRegistry) -> Service:
    """To be called in a running loop."""
    from streamproc.calls.service import Service

    return Service(spec, _transport(spec), clock, metrics.of(spec.name))


def _transport(spec: CallSpec) -> Transport:
    if isinstance(spec.asks, SqlQuery):
        from streamproc.calls.postgres import PostgresTransport

        return PostgresTransport(spec, os.environ)
    from streamproc.calls.http import HttpTransport

    return HttpTransport(spec, os.environ)
