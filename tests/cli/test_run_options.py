"""What `run` passes on to its workers, and who a pod is by default."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamproc.cli import run, worker_process
from streamproc.cli.common import LogLevel
from streamproc.cli.worker_process import COMMAND, Share
from tests.cli.conftest import Cli

PLAIN = Share("p.yaml", "file:log", Path("state"), "pod-0", 2, False, None, LogLevel.INFO)
FULL = Share(
    "p.yaml", "kafka://k:9092", Path("state"), "pod-0", 4, True, 9100, LogLevel.DEBUG, "s3://b/p", 5.0, 7, True,
    12.5, "::", 64, 24,
)  # fmt: skip


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Share]:
    """What a `run` would have started."""
    found: list[Share] = []

    def supervise(commands: Sequence[list[str]], _: object = None) -> int:
        found.extend(worker_process._parse(command[len(COMMAND) :])[0] for command in commands)
        return 0

    monkeypatch.setattr(run, "supervise", supervise)
    monkeypatch.delenv(run.INSTANCE_VARIABLE, raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "card-fraud-2")
    return found


@pytest.mark.parametrize("share", [PLAIN, FULL, PLAIN._replace(leave=True), PLAIN._replace(until_end=True)])
def test_a_worker_reads_what_its_parent_wrote(share: Share) -> None:
    assert worker_process._parse(run._child(share, 3)[len(COMMAND) :])[:2] == (share, 3)


def test_options_reach_the_worker(started: list[Share], cli: Cli) -> None:
    given = ("--leave", "--commit-interval", 5, "--metrics-host", "0.0.0.0")
    assert cli("run", "p.yaml", "--log", "file:log", *given).code == 0
    (share,) = started
    assert (share.leave, share.commit_interval_ms, share.metrics_host) == (True, 5.0, "0.0.0.0")


def test_a_pod_is_known_by_its_host_name(started: list[Share], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A StatefulSet's pods have the same host names for ever; the variable comes before it, the option first."""
    cli("run", "p.yaml", "--log", "file:log")
    monkeypatch.setenv(run.INSTANCE_VARIABLE, "named")
    cli("run", "p.yaml", "--log", "file:log")
    cli("run", "p.yaml", "--log", "file:log", "--instance", "given")
    assert [share.instance for share in started] == ["card-fraud-2", "named", "given"]
