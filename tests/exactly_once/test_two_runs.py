"""Two runs of one pipeline at once, with different numbers of workers: by mistake, or each under a name of its own."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.marks import Marks

pytestmark = pytest.mark.xdist_group("campaigns")  # one at a time: each wants the machine

REFUSED_SECONDS_MAX = 60.0


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def campaign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Campaign]:
    """Each test on both logs, under a pipeline name of its own."""
    url = f"file:{tmp_path}/log"
    if request.param == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    made = Campaign(tmp_path, url, f"two_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


def started(campaign: Campaign, name: str, *given: object) -> tuple[subprocess.Popen[str], Marks]:
    path = campaign.directory / name
    return campaign.start(path, *given), Marks(path)


def any_ended(runs: list[subprocess.Popen[str]]) -> bool:
    return any(run.poll() is not None for run in runs)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("first", "second", "gap_s"), [(2, 1, 0.2), (1, 2, 0.0), (3, 2, 0.05)])
def test_one_of_two_runs_is_refused_in_one_line(campaign: Campaign, first: int, second: int, gap_s: float) -> None:
    """However close they start: whoever is first has all identities, the other names it and ends."""
    sent = campaign.feed(4_000, seed=21)
    numbers = (first, second)
    runs: list[subprocess.Popen[str]] = []
    marks: list[Marks] = []
    for number in numbers:
        run, mark = started(campaign, f"marks-{len(runs)}", "--workers", number)
        runs.append(run)
        marks.append(mark)
        time.sleep(gap_s)
    deadline = time.monotonic() + REFUSED_SECONDS_MAX
    while not any_ended(runs):
        assert time.monotonic() < deadline, "both go on"
        time.sleep(0.02)
    lost = next(i for i, run in enumerate(runs) if run.poll() is not None)
    won = 1 - lost
    assert runs[lost].returncode == 2, campaign.logged()
    (line,) = [line for line in campaign.logged().splitlines() if line.startswith("error: ")]
    assert "goes on already" in line
    assert f"held by process {runs[won].pid} " in line
    campaign.until_commit(runs[won], marks[won], numbers[won])
    runs[won].terminate()
    assert runs[won].wait(60) == 0, campaign.logged()
    campaign.drain()
    assert campaign.verify(sent)["ok"]


@pytest.mark.timeout(300)
def test_two_instances_do_not_end_each_other(campaign: Campaign) -> None:
    """On Kafka they share; on the embedded log the newcomer takes its share. Both live, all is decided once."""
    with campaign.feeding(Plan(rate=1_000, events=10_000, seed=22)) as feeder:
        first, marks = started(campaign, "first", "--workers", 2)
        campaign.until_commit(first, marks, 2)
        second, others = started(campaign, "second", "--workers", 1, "--instance", "another")
        campaign.until_commit(second, others, 1)
        before = others.read(0).commits
        deadline = time.monotonic() + REFUSED_SECONDS_MAX
        while others.read(0).commits < before + 20:
            assert not any_ended([first, second]), campaign.logged()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        sent = campaign.end_of(feeder)["sent"]
        for run in (second, first):
            assert run.poll() is None, campaign.logged()
            run.terminate()
            assert run.wait(60) == 0, campaign.logged()
    campaign.drain()
    assert campaign.verify(sent)["ok"]
