"""Sequence patterns over two streams in a worker that dies in mid-match: matches, their measures and what is told of
partial matches are those of brute force over the order in which the journal says that rows were taken.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from operators.patterns import keys, timeouts
from operators.patterns.operator import PatternOperator
from operators.patterns.timeouts import TimedPatternOperator
from operators.plan import Plan
from state.errors import StateCorruptedError
from state.table import KeyedTable
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.simulated import Fault, Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, read_pipeline
from streamproc.runtime import reading
from streamproc.runtime.replay import SilentReplayer
from tests.bank import HOUR, NAMES, PIPELINE, Row, traffic
from tests.oracle.patterns import Found, Taken, match_all
from tests.oracle.streams import decide
from tests.simulation.streams_world import Place, StreamsWorld, slow_partitions
from tests.simulation.test_streams import CALLS, RATES, ROWS

PATTERNS = """\
patterns:
  tried: >
    MEASURES LAST(F.login_id) AS login, P.amount - 1 AS less
    PATTERN (F -> F -> P) WITHIN INTERVAL '6' HOUR
    DEFINE F AS stream = 'logins' AND outcome = 'failed', P AS stream = 'payments' AND amount > 100
  rising: >
    MEASURES Q.amount - P.amount AS rise
    PATTERN (L P Q) WITHIN INTERVAL '4' HOUR
    DEFINE L AS stream = 'logins', P AS stream = 'payments', Q AS stream = 'payments' AND amount > P.amount
  unpaid:
    match: >
      MEASURES R.password AS password AFTER MATCH SKIP TO NEXT ROW
      PATTERN (R -> P) WITHIN INTERVAL '1' HOUR
      DEFINE R AS stream = 'account_changes' AND password <> old_password, P AS stream = 'payments'
    timeout: a new password and no payment
"""
RULE = "  - {id: tried, when: matched(tried), then: review, reason: tried}\n"
MEASURES = ("tried.login", "tried.less", "rising.rise")
DECISION = f"""\
decision:
  severity: [decline, review, approve]
  otherwise: approve
  include: [{", ".join((*NAMES, *MEASURES))}]
"""
SEEDS = 24
Seen = list[tuple[int, Row]]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(
        read_pipeline(PIPELINE + RULE + PATTERNS + DECISION, str(Path(__file__).parent / "bank.yaml"))
    )


# ---- the oracle


def sequence(*names: str, gap: bool) -> Any:
    """Variables one behind the other; with gaps rows between do not matter."""
    parts = [("var", name) for name in names]
    return ("seq", [parts[0], *(("gap", "relaxed", (), (), one) if gap else one for one in parts[1:])])


def fits(rows: Seen) -> Callable[[str, int, Taken], bool]:
    """What DEFINE says of a user's rows."""

    def fit(name: str, at: int, taken: Taken) -> bool:
        stream, row = rows[at]
        if name == "F":
            return stream == 1 and row["outcome"] == "failed"
        if name == "L":
            return stream == 1
        if name == "Q":
            before = next(rows[place][1] for place, one in reversed(taken) if one == "P")
            return stream == 0 and row["cents"] > before["cents"]
        return stream == 0

    return fit


def large(rows: Seen) -> Callable[[str, int, Taken], bool]:
    """P of the pattern `tried`."""
    plain = fits(rows)
    return lambda name, at, taken: plain(name, at, taken) and (name != "P" or rows[at][1]["cents"] > 10_000)


def matches(rows: Seen) -> tuple[list[Found], list[Found]]:
    """Of a user's rows: `tried`, `rising`."""
    times = [row["time"] for _, row in rows]
    tried = match_all(sequence("F", "F", "P", gap=True), times, large(rows), within=6 * HOUR, has_gaps=True)
    return tried, match_all(sequence("L", "P", "Q", gap=False), times, fits(rows), within=4 * HOUR)


def unpaid(rows: Seen) -> list[tuple[str, int, int]]:
    """(user, begin, password) of each new password that no payment follows in time, as it is told."""
    waiting: list[tuple[int, str, int]] = []
    told: list[tuple[str, int, int]] = []
    newest = 0
    for stream, row in rows:
        user = row["user_id"]
        is_reset = stream == 2 and row["password"] != row["was"]
        if is_reset or stream == 0:
            over = [one for one in waiting if one[1] == user and row["time"] - one[0] >= HOUR]
            told += [(user, at, password) for at, _, password in over]
            waiting = [one for one in waiting if one not in over]
        if stream == 0:
            waiting = [one for one in waiting if one[1] != user]
        if is_reset:
            waiting.append((row["time"], user, row["password"]))
        newest = max(newest, row["time"])
        over = sorted(one for one in waiting if newest - one[0] >= HOUR)
        told += [(user, at, password) for at, user, password in over]
        waiting = [one for one in waiting if one not in over]
    return told


class PatternsWorld(StreamsWorld):
    """Counts what it judged in `found`."""

    def __init__(self, plan: Plan, rng: random.Random, faults: Faults) -> None:
        super().__init__(plan, rng, faults)
        self.found: Counter[str] = Counter()

    def judged(self, row: Row, mine: Seen, features: Row) -> tuple[Row, str, list[str]]:
        """See `StreamsWorld`: with the matches that the row ends."""
        action, reasons = decide(features, row)
        tried, rising = ([one for one in some if one.end == len(mine)] for some in matches(mine))
        measures: Row = dict.fromkeys(MEASURES)
        if tried:
            measures["tried.login"] = mine[tried[0].taken[1][0]][1]["id"]
            measures["tried.less"] = (row["cents"] - 100) / 100
            reasons = [*reasons, "tried"]
            action = "review" if action == "approve" else action
        if rising:
            measures["rising.rise"] = (row["cents"] - mine[rising[0].taken[1][0]][1]["cents"]) / 100
        self.found.update({"tried": len(tried), "rising": len(rising)})
        return {**features, **measures}, action, reasons

    async def _decided(self, partition: int, order: list[Place], in_order: bool) -> list[str]:
        wrong = await super()._decided(partition, order, in_order)
        rows, known = list[tuple[int, Row]](), set[tuple[int, Any]]()
        for stream, offset in order:
            row = self.rows[TopicPartition(self.topics[stream], partition)][offset]
            if row is not None and (stream, row["id"]) not in known:
                known.add((stream, row["id"]))
                rows.append((stream, row))
        alerts = [json.loads(value) for _, value, _ in await self.read(self.plan.topics.alerts, partition)]
        told = [(one["key"], one["event_time"], one["measures"]["password"]) for one in alerts]
        wanted = unpaid(rows)
        self.found["unpaid"] += len(wanted)
        return wrong if told == wanted else [*wrong, f"alerts {told}, expected {wanted}"]


# ---- the world


def simulate(plan: Plan, seed: int) -> tuple[PatternsWorld, list[str]]:
    """One seed, and what is wrong."""
    rng = random.Random(f"patterns {seed}")
    faults = Faults(rng, RATES, latency_s=(0.0, 0.01), timeout_s=0.5, delay_s=(0.05, 3.0))
    with slow_partitions(rng, 0.3), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_campaign(plan, rng, faults, seed))


async def _campaign(plan: Plan, rng: random.Random, faults: Faults, seed: int) -> tuple[PatternsWorld, list[str]]:
    world = PatternsWorld(plan, rng, faults)
    world.memory_bytes, world.flush_seconds = seed % 2, 0.01
    await world.feed_streams(traffic(seed, ROWS, late=0.05 if seed % 2 else 0.0))
    for _ in range(4):
        crash = (rng.randrange(1, 9), rng.randrange(1, 12))
        if rng.random() < 0.5:
            faults.plan(rng.choice(CALLS), rng.choice((Fault.LOST_REQUEST, Fault.LOST_REPLY)), skip=rng.randrange(6))
        await world.work(crash, batch_rows_max=rng.choice((1, 7, 40)), flush_rows=rng.choice((1, 50)))
        if rng.random() < 0.3:
            world.lose_disk()
    faults.heal()
    assert await world.work(batch_rows_max=rng.choice((16, 64)))
    return world, await world.wrongs(in_order=False)


@pytest.mark.timeout(400)
def test_matches_are_the_oracles_whatever_fails(plan: Plan) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        world, wrong = simulate(plan, seed)
        assert not wrong, f"seed {seed}: {wrong[:3]}"
        seen += world.found
        seen["crashes"] += world.crashes.total()
        seen["restored"] += int(world.count("restored_tasks"))
    assert min(seen[name] for name in ("tried", "rising", "unpaid")) > 100, seen
    assert min(seen["crashes"], seen["restored"]) > SEEDS, seen


# ---- without


def nothing(self: PatternOperator, batch: Any, context: Any) -> list[Any]:
    """A pattern that sees no row."""
    return [keys.Found() for _ in self.specs]


def only_runs(self: Any, slots: Any, changed: Any) -> None:
    """What is written of a key, without its timer."""
    keys.PatternRun._write(self, slots, changed)


def no_images() -> AbstractContextManager[object]:
    """Runs are neither undone nor flushed."""
    real = KeyedTable.touch

    def touch(self: KeyedTable, slots: Any) -> None:
        if not self.spec.name.startswith("pattern"):
            real(self, slots)

    return mock.patch.object(KeyedTable, "touch", touch)


def no_replay() -> AbstractContextManager[object]:
    """A replay leaves patterns out."""
    real = SilentReplayer.replay

    def replay(self: SilentReplayer, *given: Any, **named: Any) -> None:
        with (
            mock.patch.object(PatternOperator, "found", nothing),
            mock.patch.object(TimedPatternOperator, "found", nothing),
        ):
            real(self, *given, **named)

    return mock.patch.object(SilentReplayer, "replay", replay)


def by_stream() -> AbstractContextManager[object]:
    """A restore takes one stream's rows after the other's, not in the journal's order."""
    real = reading.joined
    return mock.patch.object(reading, "joined", lambda ranges: sorted(real(ranges)))


WITHOUT: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "the operator": lambda: mock.patch.object(PatternOperator, "found", nothing),
    "the timed operator": lambda: mock.patch.object(TimedPatternOperator, "found", nothing),
    "runs between batches": lambda: mock.patch.object(keys.PatternRun, "_kept", return_value=b""),
    "timers in the store": lambda: mock.patch.object(timeouts._TimedRun, "_write", only_runs),
    "before-images": no_images,
    "patterns in a replay": no_replay,
    "the journal's order": by_stream,
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("gone", WITHOUT)
def test_the_judge_notices(plan: Plan, gone: str) -> None:
    with WITHOUT[gone]():
        assert any(fails(plan, seed) for seed in range(SEEDS))


def fails(plan: Plan, seed: int) -> bool:
    """Whether something is wrong, or a task could not be restored."""
    try:
        return bool(simulate(plan, seed)[1])
    except (AssertionError, StateCorruptedError):
        return True
