"""What campaigns under fire came to: each leaves a line in the file that SOAK_RECORDS names, if it does; then a page.

`python -m tests.fire.report RECORDS REPORT`: the page, as Markdown. `recorded` and `record` are for every kind of
campaign.
"""

from __future__ import annotations

__all__ = ["Entry", "Running", "record", "recorded", "render"]

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

VARIABLE = "SOAK_RECORDS"


class Entry(msgspec.Struct, frozen=True):
    """One campaign: its kind and seed, events decided, kills by step, other faults by kind, what was violated."""

    campaign: str
    seed: int
    events: int
    seconds: float
    kills: dict[str, int] = {}
    faults: dict[str, int] = {}
    violations: dict[str, int] = {}


@dataclass
class Running:
    """A campaign under way, which counts what it does; `violations` are what its verifier found."""

    events: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)


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
        counts = (dict(counted) for counted in (running.kills, running.faults, running.violations))
        record(Entry(campaign, seed, running.events, round(time.monotonic() - begun, 1), *counts))


def record(entry: Entry) -> None:
    """Keep it, also one with violations: to be called before anything is asserted."""
    path = os.environ.get(VARIABLE)
    if path is not None:
        with Path(path).open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")


def render(entries: Iterable[Entry]) -> str:
    """The page."""
    entries = list(entries)
    kinds: dict[str, list[Entry]] = {}
    for entry in entries:
        kinds.setdefault(entry.campaign, []).append(entry)
    violations = _added(entry.violations for entry in entries)
    lines = [
        "# Under fire",
        "",
        f"{len(entries)} campaigns, {sum(entry.events for entry in entries):,} events, "
        f"{sum(_added(entry.kills for entry in entries).values()):,} kills, "
        f"{sum(_added(entry.faults for entry in entries).values()):,} other faults, "
        f"**{sum(violations.values())} violations**.",
        "",
        "| campaign | runs | events | minutes | kills | other faults | violations |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, runs in sorted(kinds.items()):
        sums = [sum(_added(found).values()) for found in ((e.kills for e in runs), (e.faults for e in runs))]
        wrong = sum(_added(e.violations for e in runs).values())
        minutes = sum(e.seconds for e in runs) / 60
        events = sum(e.events for e in runs)
        lines.append(f"| {kind} | {len(runs)} | {events:,} | {minutes:.1f} | {sums[0]:,} | {sums[1]:,} | {wrong} |")
    lines += _table("Kills by step", _added(entry.kills for entry in entries))
    lines += _table("Other faults by kind", _added(entry.faults for entry in entries))
    bad = [f"- {e.campaign}, seed {e.seed}: {dict(e.violations)}" for e in entries if any(e.violations.values())]
    lines += ["", "## Violations", "", *(bad or ["None."]), ""]
    return "\n".join(lines)


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {name} | {count:,} |" for name, count in sorted(counts.items())]
    return ["", f"## {title}", "", "| | times |", "|---|---|", *rows]


def _added(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total


def main() -> None:
    records, page = Path(sys.argv[1]), Path(sys.argv[2])
    lines = records.read_bytes().splitlines() if records.exists() else []
    page.write_text(render(msgspec.json.decode(line, type=Entry) for line in lines))


if __name__ == "__main__":
    main()
