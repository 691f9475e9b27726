"""The wall clock jumps by an hour and by a day, back and forth: decisions follow event time, and come out the same."""

from __future__ import annotations

import asyncio
from itertools import cycle
from pathlib import Path

import pytest

from streamproc.cli import compose
from streamproc.cli.options import load_stages
from streamproc.clock import SystemClock
from streamproc.runtime.settings import WorkerSettings
from tests.exactly_once.readers import open_reader
from tests.fire.bench import PARTITIONS, Subject
from tests.fire.report import Running

pytestmark = [
    pytest.mark.matrix("clock"),
    pytest.mark.xdist_group("fire-disk"),
    pytest.mark.timeout(180),
    pytest.mark.blocking,
]

HOUR_MS = 3_600_000
JUMPS_MS = (0, HOUR_MS, -HOUR_MS, 24 * HOUR_MS, -24 * HOUR_MS, 0, 30 * 24 * HOUR_MS)


class Jumping(SystemClock):
    """Each time it is asked, it is another time; how often that was."""

    asked = 0

    def __init__(self) -> None:
        self._jumps = cycle(JUMPS_MS)

    def now_ms(self) -> int:
        Jumping.asked += 1
        return super().now_ms() + next(self._jumps)


def decide(subject: Subject) -> list[bytes]:
    """In this process, with the clock of the composition root; the decisions' bytes, without whether they are late."""
    plan = load_stages(str(subject.campaign.yaml))[0]
    options = compose.RunOptions(subject.campaign.log_url, subject.campaign.state)
    asyncio.run(compose.run_worker([plan], options, WorkerSettings(until_end=True, batch_rows_max=100)))
    verdict = subject.campaign.verify(subject.sent)
    assert verdict["ok"], verdict
    reader = open_reader(subject.campaign.log_url)
    found = [record.value for p in range(PARTITIONS) for record in reader.read("bench_v1.decisions", p)]
    return [value.replace(b',"late_answer":true', b"") for value in found]  # that alone goes by the clock


def test_decisions_do_not_depend_on_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    """A producer's clock stays right here: how far an event may lie ahead is judged by the log's time."""
    steady, jumping = (Subject(tmp_path / name) for name in ("steady", "jumping"))
    for subject in (steady, jumping):
        subject.feed(4_000)
    wanted = decide(steady)
    monkeypatch.setattr(compose, "SystemClock", Jumping)
    assert decide(jumping) == wanted
    assert Jumping.asked > 20
    for subject in (steady, jumping):
        running.events += subject.sent
        subject.close()
