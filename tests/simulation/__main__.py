"""Many seeds, or one again.

python -m tests.simulation --seeds 0:50000 [--minutes 60] [--jobs 2]    prints one line for each seed that failed
python -m tests.simulation --seed 17 [--more=deadline] [--trace]         that line: what was wrong, step by step
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from tests.fire.report import SIMULATION, Running, record
from tests.simulation.campaign import Outcome, reproduction
from tests.simulation.seeds import run_seed
from tests.simulation.tally import SEEDS_TELLING, missing, small, table

_SEEDS_A_PROCESS = 500
_SAY_SECONDS = 30.0


def one(seed: int, *, trace: bool, more: str | None = None) -> int:
    """Run one seed and say what was wrong."""
    told = (lambda at, process, what: print(f"{at:10.6f} {process:8} {what}")) if trace else None
    outcome = run_seed(seed, told, more=None if more is None else frozenset(filter(None, more.split(","))))
    for line in outcome.wrong:
        print(line)
    print(f"seed {seed}: trace {outcome.trace}, {outcome.steps} steps, {outcome.virtual_s:.1f} virtual seconds")
    print("faults:", ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.fired.items())))
    return 1 if outcome.wrong else 0


def many(outcomes: Iterable[Outcome], first: int = 0) -> int:
    """Tell of seeds as they end; each that failed is one line, how to run it again. A soak's report hears of all.

    `first`: the first seed.
    """
    running, seen, begun, done = Running(), Counter[str](), time.monotonic(), 0
    for outcome in outcomes:
        done += 1
        running.events += outcome.records
        running.faults.update(outcome.fired)
        seen.update(outcome.seen)
        outcome.wrong += small(outcome.seen)
        if outcome.wrong:
            running.violations[f"seed {outcome.seed} failed"] = 1
            print(reproduction(outcome.seed), flush=True)
    failed = running.violations.total()
    print("\n".join(table(done, running.faults + seen)))
    absent = missing(running.faults + seen) if done >= SEEDS_TELLING else []
    if absent:
        print(f"never seen: {', '.join(absent)}")
        running.violations.update(f"never seen: {kind}" for kind in absent)
    print(f"{failed} of {done} seeds failed")
    record(msgspec.structs.replace(running.entry(SIMULATION, first, time.monotonic() - begun), runs=done))
    return 1 if failed or absent or not done else 0


def _outcomes(seeds: range, jobs: int, minutes: float | None) -> Iterator[Outcome]:
    """Run seeds until the end, or until the time is over."""
    begun = said = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=_SEEDS_A_PROCESS) as pool:
        for number, outcome in enumerate(pool.imap_unordered(run_seed, seeds), 1):
            yield outcome
            now = time.monotonic()
            if minutes is not None and now - begun > 60 * minutes:
                pool.terminate()
                return
            if now - said > _SAY_SECONDS:
                said = now
                print(f"{number} seeds after {now - begun:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--seed", type=int)
    chosen.add_argument("--seeds", help="FROM:TO, TO is not among them")
    parser.add_argument("--trace", action="store_true", help="print every step and what the workers log")
    parser.add_argument("--more", help="with --seed: what its world has besides, such as deadline,table")
    parser.add_argument("--minutes", type=float, help="end after so many")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    given = parser.parse_args()
    if given.seed is not None:
        return one(given.seed, trace=given.trace, more=given.more)
    begin, _, end = given.seeds.partition(":")
    seeds = range(int(begin), int(end))
    return many(_outcomes(seeds, given.jobs, given.minutes), seeds.start)


if __name__ == "__main__":
    sys.exit(main())
