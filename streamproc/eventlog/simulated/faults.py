"""Which call fails, and how: planned one by one, or drawn at random from a seed."""

from __future__ import annotations

__all__ = ["STEPS", "Crash", "Fault", "Faults"]

import random as randomness
from collections import Counter
from collections.abc import Mapping
from enum import Enum

import msgspec

STEPS = ("open", "begin", "append", "offsets", "delivered", "commit", "abort", "poll", "committed")
"""The calls that can fail, by their names in the contract."""


class Crash(BaseException):
    """The simulated process is dead. No `except Exception` may keep it alive; the harness catches it."""


class Fault(Enum):
    """How a call fails. All but FENCED and the crashes show as a retriable EventLogError."""

    LOST_REQUEST = "nothing happened"
    LOST_REPLY = "it happened, the caller does not know"
    TORN = "append only: some of the outputs were written"
    UNDELIVERED = "append only: as TORN, but only `delivered` tells"
    DELAYED = "commit and abort only: it happens later, perhaps into a later transaction of the same epoch"
    DELAYED_INTO_LATER = "never drawn: a DELAYED one arrived while a later transaction of its writer was open"
    MARKERS_LAG = "commit only: committed, and each partition is told later"
    UNSTABLE_OFFSETS = "never drawn: committed had to wait for a transaction's end"
    COORDINATOR_MOVES = "this call fails, and all others but appends and polls, until the coordinator has moved"
    FENCED = "another process takes our place just before; not at open and committed"
    CRASH_BEFORE = "the process dies, nothing happened"
    CRASH_AFTER = "the process dies, it happened"


_ONLY_AT = {
    Fault.TORN: {"append"},
    Fault.UNDELIVERED: {"append"},
    Fault.DELAYED: {"commit", "abort"},
    Fault.DELAYED_INTO_LATER: set[str](),
    Fault.MARKERS_LAG: {"commit"},
    Fault.UNSTABLE_OFFSETS: set[str](),
    Fault.COORDINATOR_MOVES: set(STEPS) - {"append", "delivered", "poll"},
    Fault.FENCED: set(STEPS) - {"open", "committed"},
}


class _Planned(msgspec.Struct):
    step: str
    fault: Fault
    client: str | None
    skip: int


class Faults:
    """The plan of one simulation. `fired` counts what happened, by (step, fault).

    Args:
        rates: the chance of each fault at each call that can have it.
        latency_s: each call takes a time between these.
        delay_s: a delayed request arrives after a time between these.
        lag_s: each marker of a commit that lags comes after a time between these.
        move_s: a coordinator moves for a time between these.
        timeout_s: how long the caller of a lost request or reply waits for its error.
    """

    def __init__(
        self,
        random: randomness.Random,
        rates: Mapping[Fault, float] | None = None,
        *,
        latency_s: tuple[float, float] = (0.0, 0.0),
        delay_s: tuple[float, float] = (0.1, 20.0),
        lag_s: tuple[float, float] = (0.0, 2.0),
        move_s: tuple[float, float] = (0.05, 2.0),
        timeout_s: float = 0.0,
    ) -> None:
        self._random = random
        self._rates = dict(rates or {})
        self._latency_s = latency_s
        self._delay_s = delay_s
        self._lag_s = lag_s
        self._move_s = move_s
        self._planned: list[_Planned] = []
        self.timeout_s = timeout_s
        self.fired: Counter[tuple[str, Fault]] = Counter()

    def plan(self, step: str, fault: Fault, *, client: str | None = None, skip: int = 0) -> None:
        """Fail one call of `step`, after `skip` others; of this client, or of any.

        Raises:
            ValueError: there is no such step, or it cannot fail so.
        """
        if step not in STEPS or step not in _ONLY_AT.get(fault, STEPS):
            raise ValueError(f"no fault {fault.name} at step {step}")
        self._planned.append(_Planned(step, fault, client, skip))

    def heal(self) -> None:
        """No more faults."""
        self._planned = []
        self._rates = {}

    def draw(self, step: str, client: str) -> Fault | None:
        """What happens to this call."""
        fault = self._due(step, client) or self._drawn(step)
        if fault is not None:
            self.fired[step, fault] += 1
        return fault

    def latency(self) -> float:
        """Seconds that the next call takes."""
        return self._random.uniform(*self._latency_s)

    def delay(self) -> float:
        """Seconds until a delayed request arrives."""
        return self._random.uniform(*self._delay_s)

    def lag(self) -> float:
        """Seconds until a lagging marker comes."""
        return self._random.uniform(*self._lag_s)

    def move(self) -> float:
        """Seconds that a coordinator moves."""
        return self._random.uniform(*self._move_s)

    def part(self, count: int) -> int:
        """How many of `count` a torn call does: not all."""
        return self._random.randrange(count) if count else 0

    def _due(self, step: str, client: str) -> Fault | None:
        for planned in self._planned:
            if planned.step == step and planned.client in {None, client}:
                if planned.skip == 0:
                    self._planned.remove(planned)
                    return planned.fault
                planned.skip -= 1
        return None

    def _drawn(self, step: str) -> Fault | None:
        for fault, rate in self._rates.items():
            if step in _ONLY_AT.get(fault, STEPS) and self._random.random() < rate:
                return fault
        return None
