"""Input/output errors of the state's disk alone, on the running worker: EIO on reads, writes and snapshots."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Plan
from tests.fire.bench import Subject, files_of, rss_mb
from tests.fire.faultfs import MODULE
from tests.fire.report import Running

pytestmark = [pytest.mark.matrix("input/output errors"), pytest.mark.xdist_group("fire-disk"), pytest.mark.timeout(240)]
STATE_EVENTS = {
    "read": "local state discarded",
    "write": "state could not be written, will try again",
    "snapshot": "no checkpoint was written, will try again",
}


@pytest.fixture
def subject(tmp_path: Path, running: Running) -> Iterator[Subject]:
    """With state on the disk that is not in memory."""
    made = Subject(tmp_path, "--checkpoints", f"file:{tmp_path}/blobs", "--checkpoint-seconds", "1", running=running)
    made.feed(6_000)
    assert made.campaign.command("--until-end", *made.given).returncode == 0
    yield made
    made.close()


def started(subject: Subject, faults: Path) -> None:
    """The real command with the faults in; each leads a process group of its own."""
    campaign = subject.campaign
    arguments = campaign._arguments(*subject.given)
    subject.process = campaign.python(MODULE, faults, "run", *arguments, start_new_session=True)
    campaign._started.append(subject.process)


@pytest.mark.parametrize(
    "call", ["read", *[pytest.param(call, marks=pytest.mark.soak) for call in ("write", "snapshot")]]
)
def test_the_states_disk_fails_for_a_while(subject: Subject, tmp_path: Path, call: str) -> None:
    """Said, borne, over: no restart, no good record among the dead letters, nothing lost or doubled.

    What cannot be read counts as damaged: its task is restored from a checkpoint.
    """
    faults = tmp_path / "faults"
    faults.mkdir()
    before = subject.sent
    with subject.campaign.feeding(Plan(rate=2_000, events=8_000, seed=3, skip=subject.sent)) as feeder:
        started(subject, faults)
        subject.until(lambda: subject.decided() > before)
        pid = subject.worker()
        memory, files = rss_mb(pid), files_of(pid)
        (faults / call).touch()
        subject.until(lambda: subject.said(STATE_EVENTS[call]))
        time.sleep(1.0)
        (faults / call).unlink()
        subject.sent += subject.campaign.end_of(feeder)["sent"]
    subject.until_decided()
    assert subject.worker() == pid, "it was started again"
    assert rss_mb(pid) < memory + 200
    assert files_of(pid) <= files + 40, "RocksDB's tables are open files too"
    assert subject.stop() == 0, subject.campaign.logged()
    assert not subject.said("worker died")
    subject.finish()
