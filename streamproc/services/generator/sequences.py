"""Planted frauds that show in a sequence of payments, or of what happened to the account and payments.

    account_takeover      failed logins, a login, a new address; then 1-3 payments far above the usual
    reset_then_transfer   a password reset, and minutes later money is sent
    bust_out              a higher limit; then 5-6 payments far above the usual within a day or so, by the owner
    bin_enumeration       6-8 cards of one issuer at one merchant within minutes: their codes are guessed
    decline_probing       5-7 payments, each of less than the one before, which was declined
    small_then_large      a small payment, and minutes later a large one at the same merchant
    travel_then_fallback  the copied card is used far away, and soon after swiped because its chip cannot be read

What happens to the accounts is drawn later, for the payments that are there: account.py.
"""

from __future__ import annotations

__all__ = ["SequencePlanter"]

import numpy as np
import numpy.typing as npt

from streamproc.services.generator.attacks import Attack, AttackMaker
from streamproc.services.generator.places import CITIES, MCCS, distance_km
from streamproc.services.generator.rows import NONE, Rows, concatenate
from streamproc.services.generator.victims import HOUR_MS
from streamproc.services.generator.world import DEVICES, ECOM, POS

Ints = npt.NDArray[np.int64]

_MINUTE_MS = 60_000
_SENT_CENTS_MIN, _LARGE_CENTS_MIN = 35_000, 10_500
_GUESSED_CARDS = 8
_FAR_KM = 600.0
_QUASI_CASH = [mcc.code for mcc in MCCS].index("6051")
_LAT = np.array([city.lat for city in CITIES])
_LON = np.array([city.lon for city in CITIES])


class SequencePlanter:
    """A method a kind: so many attacks."""

    def __init__(self, make: AttackMaker) -> None:
        self._make = make
        self._world, self._victims, self._random = make.world, make.victims, make.random

    def account_takeover(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape = (len(card), 3)
        return self._online(
            card, home,
            time=begin[:, None] + self._steps(shape, _MINUTE_MS, 5 * _MINUTE_MS),
            at_least=1,
            cents=self._make.times_typical(card, shape, 4.0, 8.0),
            merchant=self._make.online(shape),
        )  # fmt: skip

    def reset_then_transfer(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape = (len(card), 1)
        first, after = self._world.obscure, self._world.atms
        senders = first + np.flatnonzero(self._world.merchant_mcc[first:after] == _QUASI_CASH)
        merchant = self._random.choice(senders, shape) if len(senders) else self._make.obscure(shape)
        return self._online(
            card, home,
            time=begin[:, None],
            at_least=1,
            cents=np.maximum(self._make.times_typical(card, shape, 8.0, 20.0), _SENT_CENTS_MIN),
            merchant=merchant,
        )  # fmt: skip

    def bust_out(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape = (len(card), 6)
        user = self._world.card_user[card][:, None]
        return self._make.rows(
            Attack(
                card=card,
                time=begin[:, None] + self._steps(shape, HOUR_MS, 9 * HOUR_MS // 2),
                happens=self._make.some(shape, 5),
                cents=self._make.times_typical(card, shape, 6.0, 9.0),
                merchant=self._make.online(shape),
                channel=np.array(ECOM),
                city=home[:, None],
                device=user * DEVICES,
                address=user * 2,
            )
        )

    def bin_enumeration(self, count: int) -> Rows:
        found = [self._victims.of_one_issuer(self._world, _GUESSED_CARDS) for _ in range(count)]
        parts = [self._guess(anchors) for anchors in found if len(anchors)]
        return concatenate([part._replace(attack=np.full(len(part.card), i)) for i, part in enumerate(parts)])

    def _guess(self, anchors: Ints) -> Rows:
        """One payment a card, at one merchant, from one device behind ever other addresses."""
        rows = self._victims.rows
        count = len(anchors)
        steps = np.cumsum(self._random.integers(10_000, 55_000, count))
        begin = rows.time[anchors[0]] + self._random.integers(5 * _MINUTE_MS, 2 * HOUR_MS)
        return self._make.rows(
            Attack(
                card=rows.card[anchors],
                time=(begin + steps)[:, None],
                happens=np.ones((count, 1), np.bool_),
                cents=self._random.integers(100, 1_000, (count, 1)),
                merchant=self._make.obscure((1, 1)),
                channel=np.array(ECOM),
                city=rows.city[anchors[0]],
                device=self._make.strange_device(1)[:, None],
                address=self._make.different_addresses((1, count)).T,
            )
        )

    def decline_probing(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape = (len(card), 7)
        highest = self._make.times_typical(card, (len(card), 1), 8.0, 15.0)
        less = 0.75 ** np.arange(7) * self._random.uniform(0.9, 1.0, shape)
        return self._online(
            card, home,
            time=begin[:, None] + self._steps(shape, 20_000, 150_000),
            at_least=5,
            cents=(highest * less).astype(np.int64),
            merchant=self._make.online(shape),
        )  # fmt: skip

    def small_then_large(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape = (len(card), 2)
        large = np.maximum(self._make.times_typical(card, (len(card), 1), 5.0, 14.0), _LARGE_CENTS_MIN)
        return self._online(
            card, home,
            time=begin[:, None] + self._steps(shape, 2 * _MINUTE_MS, 15 * _MINUTE_MS),
            at_least=2,
            cents=np.hstack([self._random.integers(50, 451, (len(card), 1)), large]),
            merchant=np.repeat(self._make.online((len(card), 1)), 2, axis=1),
        )  # fmt: skip

    def travel_then_fallback(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape, world = (len(card), 2), self._world
        city = np.array([self._far_from(int(here)) for here in home], np.int64)[:, None]
        later = begin[:, None] + self._random.integers(12 * HOUR_MS, 20 * HOUR_MS, (len(card), 1))
        return self._make.rows(
            Attack(
                card=card,
                time=later + self._steps(shape, 10 * _MINUTE_MS, HOUR_MS),
                happens=np.ones(shape, np.bool_),
                cents=self._make.times_typical(card, shape, 1.0, 4.0),
                merchant=world.shops + city * world.shops_a_city + self._random.integers(0, world.shops_a_city, shape),
                channel=np.array(POS),
                city=city,
                device=np.array(NONE),
                address=np.array(NONE),
            )
        )

    # ---- parts

    def _online(self, card: Ints, home: Ints, *, time: Ints, at_least: int, cents: Ints, merchant: Ints) -> Rows:
        """A stranger's payments, the first `at_least` to all of each card's."""
        return self._make.rows(
            Attack(
                card=card,
                time=time,
                happens=self._make.some((time.shape[0], time.shape[1]), at_least),
                cents=cents,
                merchant=merchant,
                channel=np.array(ECOM),
                city=home[:, None],
                device=self._make.strange_device(len(card))[:, None],
                address=self._make.strange_address((len(card), 1)),
            )
        )

    def _steps(self, shape: tuple[int, int], low: int, high: int) -> Ints:
        """In each row times that rise by `low` to `high` ms."""
        return np.cumsum(self._random.integers(low, high, shape), axis=1)

    def _far_from(self, city: int) -> int:
        cities = np.arange(self._world.cities)
        far = distance_km(_LAT[city], _LON[city], _LAT[cities], _LON[cities]) > _FAR_KM
        return int(self._random.choice(cities[far]))
