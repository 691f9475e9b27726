"""Everything under fire within one time, and what it came to: `make soak`.

`python -m tests.soak --minutes 60 --jobs 2 --into .soak`. First the fault matrix, each test once; then campaigns, seed
after seed; then simulated seeds for what is left of the time. The exit code is 0 if all of them are content.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import SOAK_UNTIL
from tests.fire.report import VARIABLE, Entry, record, violations
from tests.fire.soak import CAMPAIGN_MINUTES

ROOT = Path(__file__).parents[2]
MATRIX_SHARE = 0.45
"""No test of the matrix begins later than that; an hour has room for all."""
CAMPAIGNS_END = 0.7
CAMPAIGNS_SHARE_MIN = 0.2
SIMULATION_SHARE_MIN = 0.1
START_MINUTES = 1.0
"""Of pytest, Kafka and the last campaign's end: not for campaigns."""


class Soak:
    """One soak: its parts in turn, each told how much time it has."""

    def __init__(self, minutes: float, jobs: int, into: Path) -> None:
        self.minutes, self.jobs = minutes, jobs
        self.records, self.report = into / "records.jsonl", into / "report.md"
        self.begun, self.wall_begun = time.monotonic(), time.time()
        into.mkdir(parents=True, exist_ok=True)
        self.records.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)
        os.environ[VARIABLE] = str(self.records.resolve())

    def run(self) -> int:
        """All of it; the first exit code that is not 0."""
        codes = [self._heard(part) for part in (self.matrix, self.campaigns, self.simulation)]
        return next((code for code in (*codes, self.tell()) if code), 0)

    def _heard(self, part: Callable[[], int]) -> int:
        """A part that fails and leaves no word why, for a process of it died, is a violation itself."""
        before = violations(self.records)
        code = part()
        if code and violations(self.records) == before:
            record(Entry(part.__name__, 0, 0, 0.0, violations={f"exit code {code}": 1}))
        return code

    def matrix(self) -> int:
        """Each test of the fault matrix, its long forms too."""
        until = self.wall_begun + 60 * self.minutes * MATRIX_SHARE
        return self._pytest("matrix", self.jobs, {SOAK_UNTIL: str(until)})

    def campaigns(self) -> int:
        """Real processes. One more at a time than there are jobs: outages without end wait nearly all the time."""
        left = self.minutes * CAMPAIGNS_END - self.elapsed_min - START_MINUTES
        minutes = max(left, self.minutes * CAMPAIGNS_SHARE_MIN)
        return self._pytest("soak and not matrix", self.jobs + 1, {CAMPAIGN_MINUTES: str(minutes)})

    def simulation(self) -> int:
        """Simulated seeds, others than those of `make test`."""
        minutes = max(self.minutes - self.elapsed_min, self.minutes * SIMULATION_SHARE_MIN)
        given = ("--seeds", "1000:10000000", "--minutes", f"{minutes:.2f}", "--jobs", str(self.jobs))
        return self._python("tests.simulation", *given)

    def tell(self) -> int:
        """The report."""
        given = (str(self.records), str(self.report), "--minutes", f"{self.elapsed_min:.1f}")
        return self._python("tests.fire.report", *given)

    @property
    def elapsed_min(self) -> float:
        """Minutes since it began."""
        return (time.monotonic() - self.begun) / 60

    def _pytest(self, marked: str, jobs: int, environment: dict[str, str]) -> int:
        return self._python("pytest", "-n", str(jobs), "--dist", "loadgroup", "-m", marked, **environment)

    def _python(self, module: str, *given: str, **environment: str) -> int:
        print(f"soak: {module} after {self.elapsed_min:.1f} minutes", flush=True)
        command = [sys.executable, "-m", module, *given]
        return subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="for all of it")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--into", type=Path, default=Path(".soak"), help="where the report goes")
    given = parser.parse_args()
    return Soak(given.minutes, given.jobs, given.into).run()


if __name__ == "__main__":
    sys.exit(main())
