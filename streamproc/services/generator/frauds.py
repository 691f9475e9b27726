"""Planted frauds, each kind in its own function: what thieves do with other people's cards.

    velocity_attack      5-8 payments within 25 s, each below what asks the card for a one-time password
    distributed_attack   10-14 payments within 18 s, each from another IP, at merchants of low reputation
    geo_spoofing         the owner pays in Mumbai; one to two minutes later the card pays in Berlin
    card_testing         3-6 payments of 1-2 at obscure merchants within ten minutes, then one or two large ones
    stolen_card          4-7 payments far above the usual within an hour, from a new device or in shops
    terminal_compromise  cards that were used at one terminal withdraw cash, one after the other, in another city

The kinds that only a sequence tells: sequences.py. An attack's payments within a kind form a matrix (attacks,
payments); a mask says which of them take place.
"""

from __future__ import annotations

__all__ = ["fraud_rows"]

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamproc.services.generator.attacks import Attack, AttackMaker
from streamproc.services.generator.options import FRAUD_KINDS
from streamproc.services.generator.places import BERLIN
from streamproc.services.generator.rows import NONE, Rows, concatenate
from streamproc.services.generator.sequences import SequencePlanter
from streamproc.services.generator.victims import HOUR_MS, Victims
from streamproc.services.generator.world import (
    ATM,
    ATMS_A_CITY,
    ECOM,
    OTP_LIMITS,
    POS,
    REPORTED_STOLEN,
    World,
)

Ints = npt.NDArray[np.int64]

_SHARES = {
    "velocity_attack": 0.2,
    "distributed_attack": 0.2,
    "geo_spoofing": 0.08,
    "card_testing": 0.2,
    "stolen_card": 0.2,
    "terminal_compromise": 0.12,
    "account_takeover": 0.08,
    "reset_then_transfer": 0.04,
    "bust_out": 0.08,
    "bin_enumeration": 0.08,
    "decline_probing": 0.08,
    "small_then_large": 0.04,
    "travel_then_fallback": 0.04,
}
"""Of the fraudulent payments, one to another."""
_PAYMENTS = dict(zip(FRAUD_KINDS, (6.5, 12.0, 1.0, 6.0, 5.5, 9.0, 2.0, 1.0, 5.5, 7.0, 6.0, 2.0, 2.0), strict=True))
"""Of one attack, about."""
_CHOOSY = ("geo_spoofing", "terminal_compromise", "bin_enumeration")
_COPIED_CARDS = 6


def fraud_rows(
    world: World, victims: Victims, payments: int, kinds: Sequence[str], random: np.random.Generator
) -> Rows:
    """About `payments` fraudulent payments of these `kinds`, at least one attack of each."""
    make = AttackMaker(world, victims, random)
    planters = _Planter(make), SequencePlanter(make)
    total = round(sum(_SHARES[kind] for kind in kinds), 9)
    parts: dict[str, Rows] = {}
    for kind in sorted(kinds, key=[*_CHOOSY, *(kind for kind in FRAUD_KINDS if kind not in _CHOOSY)].index):
        plant = next(found for planter in planters if (found := getattr(planter, kind, None)))
        parts[kind] = plant(max(1, round(payments * _SHARES[kind] / total / _PAYMENTS[kind])))
    attacks = 0
    numbered = []
    for code, kind in enumerate(FRAUD_KINDS):
        if kind in parts:
            rows = parts[kind]
            numbered.append(rows._replace(kind=np.full(len(rows.card), code), attack=rows.attack + attacks))
            attacks += int(rows.attack.max(initial=-1)) + 1
    return concatenate(numbered)


class _Planter:
    """The kinds that some payments' features tell."""

    def __init__(self, make: AttackMaker) -> None:
        self._make = make
        self._world, self._victims, self._random = make.world, make.victims, make.random

    def velocity_attack(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape = (len(card), 8)
        limit = OTP_LIMITS[self._world.card_product[card]][:, None]
        return self._make.rows(
            Attack(
                card=card,
                time=begin[:, None] + np.sort(self._random.integers(0, 25_000, shape)),
                happens=self._make.some(shape, 5),
                cents=(limit * self._random.uniform(0.45, 0.97, shape)).astype(np.int64),
                merchant=self._make.online(shape),
                channel=np.array(ECOM),
                city=home[:, None],
                device=self._make.strange_device(len(card))[:, None],
                address=self._make.strange_address((len(card), 1)),
            )
        )

    def distributed_attack(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        shape = (len(card), 14)
        return self._make.rows(
            Attack(
                card=card,
                time=begin[:, None] + np.sort(self._random.integers(0, 18_000, shape)),
                happens=self._make.some(shape, 10),
                cents=self._random.integers(400, 6_000, shape),
                merchant=self._make.obscure(shape),
                channel=np.array(ECOM),
                city=home[:, None],
                device=self._make.strange_device(shape[0])[:, None] + np.arange(14) % 3,
                address=self._make.different_addresses(shape),
            )
        )

    def geo_spoofing(self, count: int) -> Rows:
        anchors = self._victims.draw_in_mumbai(count)
        rows, world, shape = self._victims.rows, self._world, (len(anchors), 1)
        card = rows.card[anchors]
        shop = world.shops + BERLIN * world.shops_a_city + self._random.integers(0, world.shops_a_city, shape)
        return self._make.rows(
            Attack(
                card=card,
                time=rows.time[anchors][:, None] + self._random.integers(60_000, 120_000, shape),
                happens=np.ones(shape, np.bool_),
                cents=self._make.times_typical(card, shape, 0.8, 5.0),
                merchant=shop,
                channel=np.array(POS),
                city=np.array(BERLIN),
                device=np.array(NONE),
                address=np.array(NONE),
            )
        )

    def card_testing(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        small, large = (len(card), 6), (len(card), 2)
        tests = np.cumsum(self._random.integers(10_000, 80_000, small), axis=1)
        later = tests[:, -1:] + np.cumsum(self._random.integers(30_000, 90_000, large), axis=1)
        amounts = np.maximum(self._make.times_typical(card, large, 5.0, 14.0), 10_500)
        return self._make.rows(
            Attack(
                card=card,
                time=begin[:, None] + np.hstack([tests, later]),
                happens=np.hstack([self._make.some(small, 3), self._make.some(large, 1)]),
                cents=np.hstack([self._random.integers(100, 201, small), amounts]),
                merchant=np.hstack([self._make.obscure(small), self._make.online(large)]),
                channel=np.array(ECOM),
                city=home[:, None],
                device=self._make.strange_device(len(card))[:, None],
                address=self._make.strange_address((len(card), 1)),
            )
        )

    def stolen_card(self, count: int) -> Rows:
        card, begin, home = self._make.begin(count)
        reported = np.array([n - 1 for n in REPORTED_STOLEN if n <= self._world.cards], np.int64)[: count // 3]
        card[: len(reported)] = reported
        shape = (len(card), 7)
        online = self._random.random((len(card), 1)) < 0.6
        shop = self._world.shops + home[:, None] * self._world.shops_a_city
        shop = shop + self._random.integers(0, self._world.shops_a_city, shape)
        return self._make.rows(
            Attack(
                card=card,
                time=begin[:, None] + np.cumsum(self._random.integers(120_000, 480_000, shape), axis=1),
                happens=self._make.some(shape, 4),
                cents=self._make.times_typical(card, shape, 4.0, 9.0),
                merchant=np.where(online, self._make.online(shape), shop),
                channel=np.where(online, ECOM, POS),
                city=home[:, None],
                device=np.where(online, self._make.strange_device(len(card))[:, None], NONE),
                address=np.where(online, self._make.strange_address((len(card), 1)), NONE),
            )
        )

    def terminal_compromise(self, count: int) -> Rows:
        found = [self._victims.at_one_terminal(_COPIED_CARDS) for _ in range(count)]
        parts = [self._cash_out(anchors) for anchors in found if len(anchors)]
        return concatenate([part._replace(attack=np.full(len(part.card), i)) for i, part in enumerate(parts)])

    def _cash_out(self, anchors: Ints) -> Rows:
        """The copies of the cards at one cash machine, each twice, hours after the last of them was copied."""
        rows, world = self._victims.rows, self._world
        shape = (len(anchors), 2)
        here = int(rows.city[anchors[0]])
        city = (here + int(self._random.integers(1, world.cities))) % world.cities
        machine = world.atms + city * ATMS_A_CITY + int(self._random.integers(0, ATMS_A_CITY))
        begin = int(rows.time[anchors].max()) + int(self._random.integers(3 * HOUR_MS, 20 * HOUR_MS))
        turns = np.cumsum(self._random.integers(35_000, 90_000, shape).ravel()).reshape(shape)
        return self._make.rows(
            Attack(
                card=rows.card[anchors],
                time=begin + turns,
                happens=np.ones(shape, np.bool_),
                cents=self._random.integers(10, 31, shape) * 2_000,
                merchant=np.array(machine),
                channel=np.array(ATM),
                city=np.array(city),
                device=np.array(NONE),
                address=np.array(NONE),
            )
        )
