"""What users do with their accounts: they log in before they pay online, mistype and forget passwords, move, get a
higher limit. And what comes before frauds that begin with an account.

Drawn after all payments are there, from random numbers of its own.
"""

from __future__ import annotations

__all__ = ["ACTIONS", "AccountEvents", "draw_account_events"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamproc.services.generator.options import DAY_MS, FRAUD_KINDS, GeneratorOptions
from streamproc.services.generator.rows import LEGITIMATE, Rows
from streamproc.services.generator.victims import HOUR_MS
from streamproc.services.generator.world import ECOM, World

Ints = npt.NDArray[np.int64]

ACTIONS = ("login", "login_failed", "password_reset", "address_changed", "limit_raised")
_LOGIN, _FAILED, _RESET, _MOVED, _RAISED = range(5)
_SECOND_MS, _MINUTE_MS = 1_000, 60_000
# Shares: of online payments with a login before them; of these logins, and of users.
_LOGINS, _MISTYPED, _FORGOTTEN, _MOVES, _RAISES = 0.3, 0.05, 0.03, 0.01, 0.1


class AccountEvents(NamedTuple):
    """One value an event in each array, in order of time (ms); `action`: index into ACTIONS."""

    user: Ints
    time: Ints
    action: Ints


def draw_account_events(
    world: World, rows: Rows, options: GeneratorOptions, random: np.random.Generator
) -> AccountEvents:
    """Those that belong to the payments `rows`."""
    draw = _Draw(random)
    draw.of_owners(world, rows, options)
    for kind in ("account_takeover", "reset_then_transfer", "bust_out"):
        first = _firsts(rows, FRAUD_KINDS.index(kind))
        getattr(draw, kind)(world.card_user[rows.card[first]], rows.time[first])
    assert options.start_ms is not None
    found = AccountEvents(*map(np.concatenate, zip(*draw.parts, strict=True)))
    found = AccountEvents(*(column[found.time >= options.start_ms] for column in found))
    order = np.argsort(found.time, kind="stable")
    return AccountEvents(*(column[order] for column in found))


def _firsts(rows: Rows, kind: int) -> Ints:
    """The first payment of each attack of a kind."""
    mine = np.flatnonzero(rows.kind == kind)
    _, first = np.unique(rows.attack[mine], return_index=True)  # `rows` are in order of time
    return mine[first]


class _Draw:
    """Methods add to `parts`; users and times are arrays of one length."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self.parts: list[tuple[Ints, Ints, Ints]] = []

    def of_owners(self, world: World, rows: Rows, options: GeneratorOptions) -> None:
        random = self._random
        online = np.flatnonzero((rows.kind == LEGITIMATE) & (rows.channel == ECOM))
        online = online[random.random(len(online)) < _LOGINS]
        users = world.card_user[rows.card[online]]
        logins = self._before(rows.time[online], 20 * _SECOND_MS, 10 * _MINUTE_MS)
        self._add(users, logins, _LOGIN)
        share = random.random(len(users))
        mistyped, forgotten = share < _MISTYPED, share > 1 - _FORGOTTEN
        self._fail(users[mistyped], logins[mistyped], 1, 2)
        resets = self._before(logins[forgotten], 20 * _SECOND_MS, 3 * _MINUTE_MS)
        self._add(users[forgotten], resets, _RESET)
        self._fail(users[forgotten], resets, 2, 4)
        moved = random.random(len(users)) < _MOVES
        self._add(users[moved], logins[moved] + random.integers(_MINUTE_MS, 10 * _MINUTE_MS, int(moved.sum())), _MOVED)
        raised = np.flatnonzero(random.random(world.users) < _RAISES)
        assert options.start_ms is not None
        self._add(raised, options.start_ms + random.integers(0, options.days * DAY_MS, len(raised)), _RAISED)

    def account_takeover(self, users: Ints, times: Ints) -> None:
        moves = self._before(times, _MINUTE_MS, 5 * _MINUTE_MS)
        logins = self._before(moves, 20 * _SECOND_MS, 3 * _MINUTE_MS)
        self._add(users, moves, _MOVED)
        self._add(users, logins, _LOGIN)
        self._fail(users, logins, 3, 7)

    def reset_then_transfer(self, users: Ints, times: Ints) -> None:
        logins = self._before(times, 30 * _SECOND_MS, 5 * _MINUTE_MS)
        self._add(users, logins, _LOGIN)
        self._add(users, self._before(logins, 10 * _SECOND_MS, 4 * _MINUTE_MS), _RESET)

    def bust_out(self, users: Ints, times: Ints) -> None:
        self._add(users, self._before(times, HOUR_MS, 12 * HOUR_MS), _RAISED)

    # ---- parts

    def _fail(self, users: Ints, times: Ints, least: int, most: int) -> None:
        """`least` to `most` failed logins before each of `times`."""
        counts = self._random.integers(least, most + 1, len(users))
        for number in range(most):
            left = counts > number
            times = self._before(times, 5 * _SECOND_MS, 30 * _SECOND_MS)
            self._add(users[left], times[left], _FAILED)

    def _before(self, times: Ints, low: int, high: int) -> Ints:
        """Times `low` to `high` ms earlier."""
        return times - self._random.integers(low, high, len(times))

    def _add(self, users: Ints, times: Ints, action: int) -> None:
        self.parts.append((users, times, np.full(len(users), action)))
