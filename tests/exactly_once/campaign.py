"""A campaign: a steady feed, a worker that is killed again and again, a last run to the end, an independent verdict."""

from __future__ import annotations

__all__ = ["Campaign", "Plan", "Report", "assert_exactly_once", "checkpointed"]

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.exactly_once.kills import Kill, Kind
from tests.exactly_once.marks import Mark, Marks
from tests.exactly_once.victim import MODULE
from tests.exactly_once.worlds import BENCH, ROOT, World
from tests.processes import Process, run

START_SECONDS_MAX = 240.0
DRAIN_SECONDS_MAX = 300.0
_FIRST_EVENTS = 4_000
_RATE_MAX = 10_000.0
_MEAN_CYCLE = 1.25
"""What a kill and its restart take on average, in starts."""
_KILL_SECONDS = 0.2
_PLACED_SECONDS = 0.05
"""By then a worker that has announced its end is dead."""
INSTANCE = "pod"


@dataclass
class Plan:
    """What a campaign does; `rate` 0: as fast as it goes.

    A campaign lasts as long as its starts take, which depends on the machine: so its rate is chosen after one start
    has been measured, such that the events last for all kills.
    """

    kills: Sequence[Kill] = ()
    rate: float = 0.0
    events: int = 200_000
    events_max: int = 2_000_000
    workers: int = 1
    seed: int = 1
    skip: int = 0
    roll_call: bool = False
    """In the end from checkpoints alone, and every card is called up: its state shows in one more decision."""


@dataclass
class Report:
    """What happened; `verdict` is the verifier's."""

    kills: int = 0
    by_name: Counter[str] = field(default_factory=Counter)
    by_step: Counter[str] = field(default_factory=Counter)
    rate: float = 0.0
    start_seconds: float = 0.0
    drain_seconds: float = 0.0
    busy: int = 0
    in_transaction: int = 0
    under_feed: int = 0
    replayed: int = 0
    """Transactions that restores decided again."""
    restart_seconds: list[float] = field(default_factory=list)
    sent: int = 0
    feed_seconds: float = 0.0
    seconds: float = 0.0
    verdict: dict[str, Any] = field(default_factory=dict)


def checkpointed(directory: Path) -> tuple[object, ...]:
    """Options of `run`: checkpoints, as often as they can be."""
    return "--checkpoints", directory / "checkpoints", "--checkpoint-seconds", 1


class Campaign:
    """Everything lies in `directory`; `pipeline` names topics and group."""

    def __init__(self, directory: Path, log_url: str, pipeline: str, *options: object, world: World = BENCH) -> None:
        """`options`: of every `run`."""
        self.directory = directory
        self.log_url = log_url
        self.pipeline = pipeline
        self.world = world
        self.yaml = directory / "pipeline.yaml"
        self.state = directory / "state"
        self.options = options
        self._started: list[subprocess.Popen[str]] = []
        directory.mkdir(parents=True, exist_ok=True)
        self.yaml.write_text(world.named(pipeline))

    def run(self, plan: Plan) -> Report:
        """Kill as planned under the feed, then drain and verify."""
        started = time.monotonic()
        report = Report()
        first = self.feed(_FIRST_EVENTS, plan.seed)
        report.start_seconds = self._measure_start(plan.workers)
        rate = plan.events / (len(plan.kills) * (report.start_seconds * _MEAN_CYCLE + _KILL_SECONDS))
        report.rate = round(min(max(rate, self.world.rate_min), _RATE_MAX))
        steady = replace(plan, rate=report.rate, events=plan.events - first, skip=first)
        with self.feeding(steady) as feeder:
            for number, kill in enumerate(plan.kills):
                mark, restart = self._kill_once(kill, plan.workers, number, report.start_seconds)
                report.by_name[kill.name] += 1
                _count(report, mark, restart, feeder)
            sent = self.end_of(feeder)
        report.sent, report.feed_seconds = first + sent["sent"], sent["seconds"]
        at = time.monotonic()
        self.drain(plan.workers)
        report.drain_seconds = round(time.monotonic() - at, 1)
        if plan.roll_call:
            shutil.rmtree(self.state)
            report.sent += self.call_all(report.sent, plan.seed)
            self.drain(plan.workers)
        report.verdict = self.verify(report.sent)
        report.seconds = round(time.monotonic() - started, 1)
        (self.directory / "report.json").write_text(json.dumps(vars(report), indent=1))
        print(json.dumps(vars(report)))
        return report

    # ---- parts, for tests of their own too

    @contextlib.contextmanager
    def feeding(self, plan: Plan, extra: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
        """A feeder at work; `end_of` tells it to stop."""
        feeder = self.python(
            "tests.exactly_once.feeder", "--pipeline", self.yaml, "--log", self.log_url, "--rate", plan.rate,
            "--least", plan.events, "--most", max(plan.events, plan.events_max), "--stop", self.directory / "stop",
            "--seed", plan.seed, "--skip", plan.skip, "--traffic", self.world.traffic, *extra, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            yield feeder
        finally:
            feeder.kill()
            feeder.communicate()

    def feed(self, events: int, seed: int, skip: int = 0, extra: Sequence[str] = ()) -> int:
        """So many at once; how many (whole blocks)."""
        with self.feeding(Plan(events=events, events_max=events, seed=seed, skip=skip), extra) as feeder:
            sent: int = self.end_of(feeder)["sent"]
        return sent

    def call_all(self, sent: int, seed: int) -> int:
        """One more payment of every card, after the first `sent` records; how many."""
        return self.feed(self.world.cards, seed, skip=sent, extra=("--roll-call",))

    def end_of(self, feeder: subprocess.Popen[str]) -> dict[str, Any]:
        """Let it finish; what it sent."""
        (self.directory / "stop").touch()
        out, _ = feeder.communicate(timeout=DRAIN_SECONDS_MAX)
        (self.directory / "stop").unlink()
        assert feeder.returncode == 0, self.logged()
        sent: dict[str, Any] = json.loads(out)
        return sent

    def start(
        self, marks: Path, *given: object, place: str = "", alone: bool = False, forgetful: bool = False,
        kafka: Mapping[str, int] | None = None,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """`streamproc run` with marks, as the leader of a process group of its own; see victim.py."""
        ours: list[object] = ["--marks", marks, *(["--place", place] if place else [])]
        ours += ["--alone"] * alone + ["--forgetful"] * forgetful
        ours += ["--kafka", json.dumps(kafka)] if kafka else []
        process = self.python(MODULE, *ours, "--", *self._arguments(*given), start_new_session=True)
        self._started.append(process)
        return process

    def end_all(self) -> None:
        """Leave no worker behind, whatever went wrong."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def command(self, *given: object, timeout: float = DRAIN_SECONDS_MAX) -> subprocess.CompletedProcess[str]:
        """The real `streamproc run`, to its end."""
        command = [sys.executable, "-m", "streamproc.cli.main", "run", *self._arguments(*given)]
        return run(command, cwd=ROOT, timeout=timeout)

    def drain(self, workers: int = 1) -> None:
        """Decide what is left."""
        done = self.command("--until-end", "--workers", workers)
        assert done.returncode == 0, done.stderr[-3000:]

    def verify(self, sent: int) -> dict[str, Any]:
        """The verdict of a process that shares nothing with the worker."""
        path = self.directory / "verdict.json"
        path.unlink(missing_ok=True)
        verifier = self.python(
            self.world.verifier, "--log", self.log_url, "--pipeline", self.pipeline, "--records", sent, "--report", path
        )
        code = verifier.wait(DRAIN_SECONDS_MAX)
        assert path.exists(), self.logged()
        verdict: dict[str, Any] = json.loads(path.read_text())
        assert (code == 0) == verdict["ok"]
        return verdict

    def python(self, module: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """A module in a process; what it logs goes to one file."""
        with (self.directory / "processes.log").open("ab") as log:
            command = [sys.executable, "-m", module, *map(str, arguments)]
            return Process(command, cwd=ROOT, stderr=log, text=True, **options)

    def logged(self) -> str:
        """The last that any process logged."""
        return (self.directory / "processes.log").read_text(errors="replace")[-4000:]

    def _arguments(self, *given: object) -> list[str]:
        where = ["--log", self.log_url, "--state", self.state, "--instance", INSTANCE, "--log-level", "warning"]
        return [str(part) for part in (*where, *self.options, *given, self.yaml)]

    def _measure_start(self, workers: int) -> float:
        """Seconds from a start to the first commit; then it is stopped in order."""
        marks = Marks(self.directory / "marks-first")
        started = time.monotonic()
        process = self.start(self.directory / "marks-first", "--workers", workers)
        try:
            self.until_commit(process, marks, workers)
            process.terminate()
            assert process.wait(START_SECONDS_MAX) == 0, self.logged()
            return round(min(m.first_commit - started for m in map(marks.read, range(workers)) if m.commits), 2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            marks.close()

    def _kill_once(self, kill: Kill, workers: int, number: int, unit_s: float) -> tuple[Mark, float | None]:
        """Start, kill; where the kill fell, and seconds from the start to the first new commit."""
        path = self.directory / f"marks-{number}"
        marks = Marks(path)
        if kill.bare:
            shutil.rmtree(self.state)
        started = time.monotonic()
        process = self.start(path, "--workers", workers, place=kill.place, alone=kill.alone)
        try:
            if kill.kind is Kind.RANDOM:
                self.until_commit(process, marks, workers)
            if kill.kind is not Kind.PLACED:
                time.sleep(kill.wait * unit_s)
                assert process.poll() is None, f"it ended by itself: {self.logged()}"
            if kill.alone:
                return self._kill_alone(kill, process, marks, path.with_suffix(".placed"))
            if kill.kind is not Kind.PLACED:
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait(START_SECONDS_MAX)
            assert code == -signal.SIGKILL, f"exit code {code}: {self.logged()}"
            assert path.with_suffix(".placed").exists() is (kill.kind is Kind.PLACED)
            found = [marks.read(worker) for worker in range(workers)]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            marks.close()
        firsts = [mark.first_commit - started for mark in found if mark.commits]
        return max(found, key=lambda mark: (mark.busy, mark.step)), min(firsts, default=None)

    def _kill_alone(self, kill: Kill, process: subprocess.Popen[str], marks: Marks, placed: Path) -> tuple[Mark, float]:
        """Worker 0 dies, the others go on; it is started again, commits, and then all are stopped in order."""
        if kill.kind is Kind.PLACED:
            self._until(placed.exists, process)
            time.sleep(_PLACED_SECONDS)
        else:
            self._until(lambda: marks.child(0, process.pid), process)  # at a start it may still be to come
            os.kill(marks.read(0).pid, signal.SIGKILL)
        at, mark = time.monotonic(), marks.read(0)
        self._until(lambda: marks.read(0).commits > mark.commits, process)
        seconds = time.monotonic() - at
        process.terminate()
        assert process.wait(START_SECONDS_MAX) == 0, self.logged()
        return mark, seconds

    def until_commit(self, process: subprocess.Popen[str], marks: Marks, workers: int) -> None:
        """Wait for the first commit of any worker."""
        self._until(lambda: any(marks.read(worker).commits for worker in range(workers)), process)

    def _until(self, reached: Callable[[], object], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not reached():
            assert process.poll() is None, f"it ended by itself: {self.logged()}"
            assert time.monotonic() < deadline, f"not within {START_SECONDS_MAX} s: {self.logged()}"
            time.sleep(0.005)


def _count(report: Report, mark: Mark, restart: float | None, feeder: subprocess.Popen[str]) -> None:
    report.kills += 1
    report.under_feed += feeder.poll() is None
    report.by_step[str(mark.step) if mark.commits or mark.step else "start"] += 1
    report.busy += mark.busy
    report.in_transaction += mark.busy and mark.step in {5, 6, 7}
    report.replayed += mark.replayed
    if restart is not None:
        report.restart_seconds.append(round(restart, 2))


def assert_exactly_once(report: Report, plan: Plan) -> None:
    """Nothing wrong, and the campaign was none in name only."""
    verdict = report.verdict
    assert verdict["ok"], verdict
    assert verdict["records"] == report.sent >= plan.events
    assert verdict["decisions"] + verdict["dead_letters"] == report.sent
    assert min(verdict["dead_letters"], verdict["repeated"]) > report.sent / 2_000
    assert min(verdict["actions"].get(action, 0) for action in ("approve", "review", "decline")) > report.sent / 100
    assert report.kills == report.under_feed == len(plan.kills)
    assert report.busy * 2 >= report.kills, f"too few kills past step 1 with work at hand: {report.by_step}"
    assert report.replayed > 0
    assert report.in_transaction >= 3, f"too few kills in steps 5-7: {report.by_step}"
