"""For all tests: a shared Kafka broker, a guard against blocking the event loop, what the simulation has seen, and
what a soak records of tests that are marked `matrix`.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx

from tests.fire.report import Entry, Running, record
from tests.kafka.broker import missing
from tests.kafka.shared import Address, shared_broker
from tests.simulation import tally

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no deadline")

TESTS = Path(__file__).parent
PROCESSES = {"bad_input", "cli", "exactly_once", "fire"}
"""Folders of tests that start processes."""
OURS = ["streamproc", "operators", "models", "state"]
SIMULATION: pytest.StashKey[Counter[str]] = pytest.StashKey()
"""Seeds of the simulation and the faults they saw, by kind; of all processes in the one that reports."""

_GC_THRESHOLDS = 7_000, 10, 10

RUNNING: pytest.StashKey[Running] = pytest.StashKey()
"""What a test that is marked `matrix` counts."""
SOAK_UNTIL = "SOAK_UNTIL"
"""Seconds since the epoch: no test marked `matrix` begins later, so that a soak takes no longer than it should."""


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


@pytest.fixture(autouse=True)
def structlog_defaults() -> Iterator[None]:
    """A command called in this process sets the level of its logs: the next test must see all of its own."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def uncompiled_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start a second sooner without machine code; so the whole is tried both ways, too."""
    folder = request.path.relative_to(TESTS).parts[0] if request.path.is_relative_to(TESTS) else ""
    if folder in PROCESSES and not request.node.get_closest_marker("compiled"):
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")


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


def pytest_configure(config: pytest.Config) -> None:
    seen: Counter[str] = Counter()
    config.stash[SIMULATION] = seen


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What has been collected stays, so that Python's collector need not look at it again and again."""
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """A process of xdist has ended: what it has seen is ours."""
    seen: Counter[str] = node.config.stash[SIMULATION]
    seen.update(getattr(node, "workeroutput", {}).get("simulation", {}))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A kind of fault that never fired fails a whole run."""
    seen: Counter[str] = session.config.stash[SIMULATION]
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["simulation"] = dict(seen)
    elif seen["seeds"] >= tally.SEEDS_TELLING and tally.missing(seen) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seen = config.stash[SIMULATION].copy()
    if not (seeds := seen.pop("seeds", 0)):
        return
    terminalreporter.section("simulation")
    terminalreporter.write("\n".join(tally.table(seeds, seen)) + "\n")
    if seeds >= tally.SEEDS_TELLING and (absent := tally.missing(seen)):
        terminalreporter.write(f"never seen: {', '.join(absent)}\n", red=True)


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Running:
    """What this test counts for a soak's report, if it is marked `matrix`."""
    found: Running = request.node.stash.setdefault(RUNNING, Running())
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    until = os.environ.get(SOAK_UNTIL)
    if until is not None and item.get_closest_marker("matrix") and time.time() > float(until):
        pytest.skip(SOAK_UNTIL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Each test marked `matrix` is a campaign: its name is the fault, and a failure is a violation."""
    report = yield
    marker = item.get_closest_marker("matrix")
    if marker is None or (report.when != "call" and report.passed):
        return report
    campaign: str = marker.args[0]
    running = item.stash.setdefault(RUNNING, Running())
    if report.skipped:
        record(Entry(campaign, 0, 0, 0.0, runs=0))
        return report
    running.faults[item.name.partition("[")[0].removeprefix("test_").replace("_", " ")] += 1
    if report.failed and not running.violations.total():
        running.violations[item.name] += 1
    record(running.entry(campaign, 0, report.duration))
    return report
