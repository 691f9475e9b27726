"""Every contract test runs on each log of `LOGS`; a new implementation adds one entry there."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from streamproc.clock import SystemClock
from streamproc.eventlog.contract import EventLog
from streamproc.eventlog.embedded import EmbeddedEventLog
from streamproc.eventlog.kafka import KafkaLog
from streamproc.eventlog.prepared import PreparedLog
from streamproc.eventlog.simulated import SimulatedCluster
from tests.eventlog.clients import Clients

Connect = Callable[[], EventLog]
"""A new client, as another process would have, of the test's one log; called on the event loop."""


def embedded(request: pytest.FixtureRequest) -> Connect:
    directory = request.getfixturevalue("tmp_path") / "log"
    return lambda: EmbeddedEventLog(directory)


def kafka(request: pytest.FixtureRequest) -> Connect:
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    return lambda: KafkaLog(bootstrap, heartbeat_interval_ms=300)


def simulated(request: pytest.FixtureRequest) -> Connect:
    cluster, names = SimulatedCluster(SystemClock(), random.Random(1)), itertools.count()
    return lambda: cluster.client(f"client-{next(names)}")


def prepared(request: pytest.FixtureRequest) -> Connect:
    """What it prepares, no contract test has: all else must be the log's own."""
    inner = simulated(request)
    return lambda: PreparedLog(inner(), "prepared")


LOGS: dict[str, Callable[[pytest.FixtureRequest], Connect]] = {
    "embedded": embedded,
    "simulated": simulated,
    "prepared": prepared,
    "kafka": kafka,
}
MARKS = {"kafka": [pytest.mark.kafka, pytest.mark.slow]}

_numbers = itertools.count()


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, [])) for name in LOGS])
def connect(request: pytest.FixtureRequest) -> Connect:
    return LOGS[request.param](request)


@pytest.fixture
def unique() -> str:
    """Part of every name, so that tests may share a log."""
    return f"{os.getpid()}-{random.randrange(1 << 32):08x}-{next(_numbers)}"


@pytest_asyncio.fixture
async def clients(connect: Connect, unique: str) -> AsyncIterator[Clients]:
    made = Clients(connect, unique)
    yield made
    await made.close()
