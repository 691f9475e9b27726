"""What campaigns under fire came to: each leaves a line in the file that SOAK_RECORDS names, if it does; then a page.

`python -m tests.fire.report RECORDS REPORT --minutes 60`: the page, as Markdown; without records there is none.
`recorded` and `record` are for every kind of campaign.
"""

from __future__ import annotations

__all__ = [
    "SIMULATION",
    "VARIABLE",
    "About",
    "Entry",
    "NoRecordsError",
    "Running",
    "read",
    "record",
    "recorded",
    "render",
    "violations",
]

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

ROOT = Path(__file__).parents[2]
VARIABLE = "SOAK_RECORDS"
SIMULATION = "simulation"
"""The campaign whose faults are simulated, and have a table of their own."""


class NoRecordsError(Exception):
    """A soak that ran nothing has shown nothing."""


class About(NamedTuple):
    """Which program, where and when, and how long it took altogether."""

    commit: str
    machine: str
    date: str
    minutes: float


class Entry(msgspec.Struct, frozen=True):
    """One campaign: its kind and seed, events decided, kills by step, other faults by kind, what was violated.

    `runs`: how often it was run from that seed on; 0 if its time was over before it could begin.
    """

    campaign: str
    seed: int
    events: int
    seconds: float
    kills: dict[str, int] = {}
    faults: dict[str, int] = {}
    violations: dict[str, int] = {}
    runs: int = 1


@dataclass
class Running:
    """A campaign under way, which counts what it does; `violations` are what its verifier found."""

    events: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)

    def entry(self, campaign: str, seed: int, seconds: float) -> Entry:
        """What it came to."""
        kills, faults, violations = (dict(counted) for counted in (self.kills, self.faults, self.violations))
        return Entry(campaign, seed, self.events, round(seconds, 1), kills, faults, violations)


@contextlib.contextmanager
def recorded(campaign: str, seed: int) -> Iterator[Running]:
    """Records what the block did, also when it fails: one that no verifier found fault with counts as `failed`."""
    running, begun = Running(), time.monotonic()
    try:
        yield running
    except BaseException:
        if not running.violations.total():
            running.violations["failed"] = 1
        raise
    finally:
        record(running.entry(campaign, seed, time.monotonic() - begun))


def record(entry: Entry) -> None:
    """Keep it, also one with violations: to be called before anything is asserted."""
    path = os.environ.get(VARIABLE)
    if path is not None:
        with Path(path).open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")


def render(entries: Iterable[Entry], told: About) -> str:
    """The page."""
    entries = list(entries)
    kinds: dict[str, list[Entry]] = {}
    for entry in entries:
        kinds.setdefault(entry.campaign, []).append(entry)
    violations = _sum(entry.violations for entry in entries)
    left_out = Counter(entry.campaign for entry in entries if not entry.runs)
    lines = [
        "# Under fire",
        "",
        f"Commit {told.commit}, {told.date}, {told.minutes:.1f} minutes on {told.machine}.",
        "",
        f"{sum(entry.runs for entry in entries):,} campaigns, {sum(entry.events for entry in entries):,} events, "
        f"{_sum(entry.kills for entry in entries):,} kills, {_sum(entry.faults for entry in entries):,} other faults, "
        f"**{violations:,} violations**.",
        "",
        "| campaign | runs | events | minutes | kills | other faults | violations |",
        "|---|---|---|---|---|---|---|",
        *(_row(kind, runs) for kind, runs in sorted(kinds.items())),
    ]
    if left_out:
        some = ", ".join(f"{kind} {count}" for kind, count in sorted(left_out.items()))
        lines += ["", f"Not run, for their time was over or this machine cannot: {some}."]
    real = [entry for entry in entries if entry.campaign != SIMULATION]
    lines += _table("Kills by step", _added(entry.kills for entry in real))
    lines += _table("Other faults by kind", _added(entry.faults for entry in real))
    simulated = [entry for entry in entries if entry.campaign == SIMULATION]
    lines += _table("Simulated faults by kind", _added(f for entry in simulated for f in (entry.kills, entry.faults)))
    bad = [f"- {e.campaign}, seed {e.seed}: {dict(e.violations)}" for e in entries if any(e.violations.values())]
    lines += ["", "## Violations", "", *(bad or ["None."]), ""]
    return "\n".join(lines)


def _row(kind: str, entries: list[Entry]) -> str:
    kills, faults, wrong = (_sum(getattr(e, what) for e in entries) for what in ("kills", "faults", "violations"))
    minutes, runs = sum(e.seconds for e in entries) / 60, sum(e.runs for e in entries)
    events = sum(e.events for e in entries)
    return f"| {kind} | {runs:,} | {events:,} | {minutes:.1f} | {kills:,} | {faults:,} | {wrong} |"


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {name} | {count:,} |" for name, count in sorted(counts.items())]
    return ["", f"## {title}", "", "| | times |", "|---|---|", *rows]


def _added(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total


def _sum(counts: Iterable[Mapping[str, int]]) -> int:
    return sum(_added(counts).values())


def about(minutes: float) -> About:
    """This checkout and this machine, now."""

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD") + (" with changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    machine = f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()}, {memory:.0f} GB"
    machine += f", {platform.system()}, Python {platform.python_version()}"
    return About(commit, machine, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", minutes)


def read(records: Path) -> list[Entry]:
    """What was recorded.

    Raises:
        NoRecordsError: nothing was.
    """
    lines = records.read_bytes().splitlines() if records.exists() else []
    if not lines:
        raise NoRecordsError(f"{records} holds no records: no campaign ran, see what pytest said above")
    return [msgspec.json.decode(line, type=Entry) for line in lines]


def violations(records: Path) -> int:
    """How many were recorded so far."""
    try:
        return _sum(entry.violations for entry in read(records))
    except NoRecordsError:
        return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fire.report")
    parser.add_argument("records", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="how long all of it took")
    given = parser.parse_args()
    try:
        entries = read(given.records)
    except NoRecordsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    given.report.write_text(render(entries, about(given.minutes)))
    print(f"{given.report}: {_sum(entry.violations for entry in entries)} violations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
