"""Fixtures for all tests: a shared Kafka broker, and a guard against blocking the event loop."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from tests.kafka.broker import missing
from tests.kafka.shared import Address, shared_broker

OURS = ["streamproc", "operators", "models", "state"]


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Fail a test in which our code blocks a running event loop; `blocking` marks the exceptions.

    Only calls made under a frame of our packages count: a test may read a file, we may not.
    Calls in threads and native calls (rocksdict, onnxruntime) are not seen.
    """
    if request.node.get_closest_marker("blocking"):
        yield None
        return
    with blockbuster_ctx(OURS) as guard:
        yield guard


@pytest.fixture(scope="session")
def kafka_installed() -> None:
    """Skip without Java or the jars, and say what to do; on CI, where both must be there, fail."""
    if problem := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(problem, pytrace=False)
        pytest.skip(problem)


@pytest.fixture(scope="session")
def kafka_address(
    kafka_installed: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Address]:
    """A real broker, one for the whole session and all xdist workers.

    Topics are shared too: a test names its own.
    """
    base = tmp_path_factory.getbasetemp()
    common = base.parent if hasattr(request.config, "workerinput") else base
    with shared_broker(common / "kafka") as address:
        yield address


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_address: Address) -> str:
    """What its clients call `bootstrap_servers`."""
    return kafka_address.bootstrap
