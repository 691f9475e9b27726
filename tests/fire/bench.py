"""A run of configs/bench_v1 with its directories where a test wants them, and what it takes of the machine."""

from __future__ import annotations

__all__ = ["Subject", "files_of", "rss_mb"]

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.exactly_once.campaign import Campaign
from tests.exactly_once.checks import Findings
from tests.exactly_once.marks import Marks
from tests.exactly_once.readers import open_reader
from tests.exactly_once.traffic import CARDS
from tests.fire.report import Running

PARTITIONS = 4
PATIENCE_S = 90.0
VIOLATIONS = tuple(Findings().faults)


class Subject:
    """One pipeline on an embedded log in `home`/log, started and started again; `given`: options of every start."""

    def __init__(
        self, home: Path, *given: object, log: Path | None = None, state: Path | None = None, url: str = "",
        name: str = "bench_v1", running: Running | None = None,
    ) -> None:  # fmt: skip
        """`running`: counts what `finish` has judged."""
        self.campaign = Campaign(home / "run", url or f"file:{log or home / 'log'}", name)
        if state is not None:
            self.campaign.state = state
        self.given = given
        self.running = running or Running()
        self.sent = self._judged = 0
        self.marks = Marks(self.campaign.directory / "marks")
        self.process: subprocess.Popen[str] | None = None

    @property
    def commits(self) -> int:
        """Of all starts."""
        return self.marks.read(0).commits

    def feed(self, records: int, seed: int = 3, *, cards: int = CARDS) -> None:
        """Append the next records of the seed's stream."""
        self.sent += self.campaign.feed(records, seed, skip=self.sent, extra=("--cards", str(cards)))

    def start(self, *given: object) -> None:
        """A `run` that goes on until `stop`; returns when it has committed something."""
        before = self.commits
        self.process = self.campaign.start(self.campaign.directory / "marks", *self.given, *given)
        self.until(lambda: self.commits > before)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for it while the run lives."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert self.process is None or self.process.poll() is None, self.campaign.logged()
            assert time.monotonic() < deadline, self.campaign.logged()
            time.sleep(0.02)

    def decided(self) -> int:
        """Records that the group's committed offsets lie behind."""
        topic = f"{self.campaign.pipeline}.transactions"
        found = open_reader(self.campaign.log_url).committed(self.campaign.pipeline, topic)
        return sum(offset for offset, _ in found.values())

    def until_decided(self) -> None:
        """All that was fed is decided."""
        self.until(lambda: self.decided() == self.sent)

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Drain, and have it judged: nothing lost, doubled or wrong; the drain's own output."""
        done = self.campaign.command("--until-end", *self.given)
        assert done.returncode == 0, done.stderr[-3000:]
        verdict = self.campaign.verify(self.sent)
        self.running.events += self.sent - self._judged
        self._judged = self.sent
        self.running.violations.update({name: verdict[name] for name in VIOLATIONS})
        assert verdict["ok"], verdict
        assert self.decided() == self.sent
        return done

    def events(self) -> list[dict[str, object]]:
        """What all processes have logged so far."""
        written = (self.campaign.directory / "processes.log").read_text(errors="replace")
        whole = written.split("\n")[:-1]  # the last one may be half written
        return [json.loads(line) for line in whole if line.startswith("{")]

    def said(self, event: str) -> bool:
        """Whether an event of this name was logged."""
        return any(entry["event"] == event for entry in self.events())

    def worker(self) -> int:
        """The process id of worker 0."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def close(self) -> None:
        """Leave nothing behind."""
        self.campaign.end_all()
        self.marks.close()


def rss_mb(pid: int) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def files_of(pid: int) -> int:
    """How many files it has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
