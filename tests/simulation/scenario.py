"""What a seed draws before anything runs: how many of what, with which settings, under which faults."""

from __future__ import annotations

__all__ = ["BESIDE", "Scenario", "draw", "draw_beside"]

import random
from typing import Any

import msgspec

from streamproc.eventlog.simulated import Fault, Faults, Timeouts

CALL_RATES = {
    Fault.LOST_REQUEST: 0.02,
    Fault.LOST_REPLY: 0.02,
    Fault.TORN: 0.05,
    Fault.UNDELIVERED: 0.05,
    Fault.DELAYED: 0.06,
    Fault.COORDINATOR_MOVES: 0.01,
    Fault.FENCED: 0.004,
    Fault.CRASH_BEFORE: 0.003,
    Fault.CRASH_AFTER: 0.004,
}
"""The chance at each call that can fail so, if the seed has the fault at all."""
ACTIONS = (
    "kill", "machine_crash", "machine_crash_torn", "disk_lost", "crash_at_step", "crash_at_blob", "pause",
    "pause_at_step", "cut_off", "forgotten", "stop", "leave", "flip_row", "flip_blob", "tear_blob", "blob_fails",
    "blob_slow", "write_fails", "clock_hour_on", "clock_hour_back", "clock_day_on",
    "forgotten", "forgotten", "pause_at_step",  # again: these make zombies
)  # fmt: skip
"""What the nemesis does now and then."""
STAGES = (1, 1, 1, 1, 2, 3)
MORE = {"deadline": 0.2, "table": 0.25, "call": 0.5}
"""What worlds have besides, by its share; calls stand between stages."""
BESIDE = 4
"""So many stages has the pipeline some of which stand side by side."""


class Scenario(msgspec.Struct, frozen=True):
    """One seed's world. Times in virtual seconds."""

    seed: int
    stages: int
    records: int
    cards: int
    partitions: int
    pods: int
    one_machine: bool
    timeouts: Timeouts
    poll_bytes_max: int
    latency_s: float
    feed_s: float
    settings: dict[str, Any]
    memory_bytes: int
    flush_s: float
    checkpoint_s: float  # 0: none
    calls: dict[Fault, float]
    actions: tuple[str, ...]
    pause_s: float  # between two actions, on average
    apart: bool = False  # who gets a partition of one stage need not get that of another
    more: frozenset[str] = frozenset()  # see `variants.simulated_plans`

    def faults(self, rng: random.Random) -> Faults:
        """The faults of calls."""
        return Faults(
            rng, self.calls, latency_s=(0.0, self.latency_s), timeout_s=0.3, delay_s=(0.05, 3.0), lag_s=(0.0, 2.0),
            move_s=(0.05, 1.0),
        )  # fmt: skip


def draw(seed: int) -> Scenario:
    """All that `seed` decides beforehand."""
    found = _staged(seed) or _drawn(seed, random.Random(f"scenario {seed}"))
    rng = random.Random(f"more {seed}")
    more = {what for what, share in MORE.items() if rng.random() < share}
    return msgspec.structs.replace(found, more=frozenset(more if found.stages > 1 else more - {"call"}))


def _staged(seed: int) -> Scenario | None:
    """The seed's world if it has several stages."""
    rng = random.Random(f"stages {seed}")
    stages = rng.choice(STAGES)
    return None if stages == 1 else _of_stages(seed, stages, rng)


def draw_beside(seed: int) -> Scenario:
    """The seed's world of stages side by side."""
    return _of_stages(seed, BESIDE, random.Random(f"beside {seed}"))


def _of_stages(seed: int, stages: int, rng: random.Random) -> Scenario:
    drawn = _drawn(seed, random.Random(f"scenario {seed}"))
    settings = drawn.settings | {"in_step_seconds": rng.choice((0.1, 0.4, 1.0))}
    return msgspec.structs.replace(drawn, stages=stages, settings=settings, apart=rng.random() < 0.3)


def _drawn(seed: int, rng: random.Random) -> Scenario:
    kinds = rng.sample(list(CALL_RATES), rng.randint(0, 4))
    actions = tuple(rng.sample(ACTIONS, rng.randint(3, 7)))
    settings = {
        "batch_rows_max": rng.choice((6, 15, 40)),
        "flush_rows": rng.choice((1, 20, 1000)),
        "flush_seconds": rng.choice((0.05, 0.3, 1.0)),
        "commit_interval_ms": rng.choice((0.0, 0.0, 0.0, 30.0, 150.0)),
        "leave": rng.random() < 0.3,
    }
    return Scenario(
        seed=seed,
        stages=1,
        records=rng.randint(300, 340),
        cards=rng.choice((4, 12, 40)),
        partitions=rng.choice((2, 2, 3, 4)),
        pods=rng.choice((2, 2, 3)),
        one_machine=rng.random() < 0.3,
        timeouts=Timeouts(
            transaction_s=rng.choice((1.0, 2.0, 5.0)), session_s=rng.choice((1.0, 2.0)), rebalance_s=2.0, call_s=5.0
        ),
        poll_bytes_max=rng.choice((600, 4_000, 1 << 20)),
        latency_s=rng.choice((0.002, 0.01, 0.03)),
        feed_s=rng.choice((1.0, 3.0, 6.0)),
        settings=settings,
        memory_bytes=rng.choice((0, 1, 20_000)),
        flush_s=rng.choice((0.01, 0.1, 0.5)),
        checkpoint_s=rng.choice((0.0, 0.2, 0.5, 2.0)),
        calls={kind: CALL_RATES[kind] * rng.choice((0.5, 1.0, 2.0)) for kind in kinds}
        | {Fault.MARKERS_LAG: rng.choice((0.0, 0.1, 0.3, 0.6))},
        actions=actions,
        pause_s=rng.choice((0.15, 0.3, 0.6)),
    )
