"""Planted frauds, each kind in its own function: what thieves do with other people's cards.

    velocity_attack      5-8 payments within 25 s, each below what asks the card for a one-time password
    distributed_attack   10-14 payments within 18 s, each from another IP, at merchants of low reputation
    geo_spoofing         the owner pays in Mumbai; one to two minutes later the card pays in Berlin
    card_testing         3-6 payments of 1-2 at obscure merchants within ten minutes, then one or two large ones
    stolen_card          4-7 payments far above the usual within an hour, from a new device or in shops
    terminal_compromise  cards that were used at one terminal withdraw cash, one after the other, in another city

An attack's payments within a kind form a matrix (attacks, payments); a mask says which of them take place.
"""

from __future__ import annotations

__all__ = ["fraud_rows"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamproc.services.generator.options import FRAUD_KINDS
from streamproc.services.generator.places import BERLIN, CITIES
from streamproc.services.generator.rows import NONE, Rows, concatenate
from streamproc.services.generator.victims import HOUR_MS, Victims
from streamproc.services.generator.world import (
    ATM,
    ATMS_A_CITY,
    DEVICES,
    ECOM,
    OTP_LIMITS,
    POS,
    REPORTED_STOLEN,
    TRUSTED,
    World,
)

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SHARES = dict(zip(FRAUD_KINDS, (0.2, 0.2, 0.08, 0.2, 0.2, 0.12), strict=True))
_PAYMENTS = dict(zip(FRAUD_KINDS, (6.5, 12.0, 1.0, 6.0, 5.5, 9.0), strict=True))  # of one attack, about
_COPIED_CARDS = 6
_LAT = np.array([city.lat for city in CITIES])
_LON = np.array([city.lon for city in CITIES])


def fraud_rows(world: World, victims: Victims, payments: int, random: np.random.Generator) -> Rows:
    """About `payments` fraudulent payments, at least one attack of each kind."""
    planter = _Planter(world, victims, random)
    counts = {kind: max(1, round(payments * _SHARES[kind] / _PAYMENTS[kind])) for kind in FRAUD_KINDS}
    order = ("geo_spoofing", "terminal_compromise", *FRAUD_KINDS)  # the choosy ones first
    parts = {kind: getattr(planter, kind)(counts[kind]) for kind in dict.fromkeys(order)}
    attacks = 0
    numbered = []
    for code, kind in enumerate(FRAUD_KINDS):
        rows: Rows = parts[kind]
        numbered.append(rows._replace(kind=np.full(len(rows.card), code), attack=rows.attack + attacks))
        attacks += int(rows.attack.max(initial=-1)) + 1
    return concatenate(numbered)


class _Attack(NamedTuple):
    """Matrices (attacks, payments), or what broadcasts to them; `happens` masks them. `card` is one an attack."""

    card: Ints
    time: Ints
    happens: Mask
    cents: Ints
    merchant: Ints
    channel: Ints
    city: Ints
    device: Ints
    address: Ints


class _Planter:
    def __init__(self, world: World, victims: Victims, random: np.random.Generator) -> None:
        self._world = world
        self._victims = victims
        self._random = random

    def velocity_attack(self, count: int) -> Rows:
        card, begin, home = self._begin(count)
        shape = (len(card), 8)
        limit = OTP_LIMITS[self._world.card_product[card]][:, None]
        return self._rows(
            _Attack(
                card=card,
                time=begin[:, None] + np.sort(self._random.integers(0, 25_000, shape)),
                happens=self._some(shape, 5),
                cents=(limit * self._random.uniform(0.45, 0.97, shape)).astype(np.int64),
                merchant=self._online(shape),
                channel=np.array(ECOM),
                city=home[:, None],
                device=self._strange_device(len(card))[:, None],
                address=self._strange_address((len(card), 1)),
            )
        )

    def distributed_attack(self, count: int) -> Rows:
        card, begin, home = self._begin(count)
        shape = (len(card), 14)
        return self._rows(
            _Attack(
                card=card,
                time=begin[:, None] + np.sort(self._random.integers(0, 18_000, shape)),
                happens=self._some(shape, 10),
                cents=self._random.integers(400, 6_000, shape),
                merchant=self._obscure(shape),
                channel=np.array(ECOM),
                city=home[:, None],
                device=self._strange_device(shape[0])[:, None] + np.arange(14) % 3,
                address=self._different_addresses(shape),
            )
        )

    def geo_spoofing(self, count: int) -> Rows:
        anchors = self._victims.draw_in_mumbai(count)
        rows, world, shape = self._victims.rows, self._world, (len(anchors), 1)
        card = rows.card[anchors]
        shop = world.shops + BERLIN * world.shops_a_city + self._random.integers(0, world.shops_a_city, shape)
        return self._rows(
            _Attack(
                card=card,
                time=rows.time[anchors][:, None] + self._random.integers(60_000, 120_000, shape),
                happens=np.ones(shape, np.bool_),
                cents=self._times_typical(card, shape, 0.8, 5.0),
                merchant=shop,
                channel=np.array(POS),
                city=np.array(BERLIN),
                device=np.array(NONE),
                address=np.array(NONE),
            )
        )

    def card_testing(self, count: int) -> Rows:
        card, begin, home = self._begin(count)
        small, large = (len(card), 6), (len(card), 2)
        tests = np.cumsum(self._random.integers(10_000, 80_000, small), axis=1)
        later = tests[:, -1:] + np.cumsum(self._random.integers(30_000, 90_000, large), axis=1)
        amounts = np.maximum(self._times_typical(card, large, 5.0, 14.0), 10_500)
        return self._rows(
            _Attack(
                card=card,
                time=begin[:, None] + np.hstack([tests, later]),
                happens=np.hstack([self._some(small, 3), self._some(large, 1)]),
                cents=np.hstack([self._random.integers(100, 201, small), amounts]),
                merchant=np.hstack([self._obscure(small), self._online(large)]),
                channel=np.array(ECOM),
                city=home[:, None],
                device=self._strange_device(len(card))[:, None],
                address=self._strange_address((len(card), 1)),
            )
        )

    def stolen_card(self, count: int) -> Rows:
        card, begin, home = self._begin(count)
        reported = np.array([n - 1 for n in REPORTED_STOLEN if n <= self._world.cards], np.int64)[: count // 3]
        card[: len(reported)] = reported
        shape = (len(card), 7)
        online = self._random.random((len(card), 1)) < 0.6
        shop = self._world.shops + home[:, None] * self._world.shops_a_city
        shop = shop + self._random.integers(0, self._world.shops_a_city, shape)
        return self._rows(
            _Attack(
                card=card,
                time=begin[:, None] + np.cumsum(self._random.integers(120_000, 480_000, shape), axis=1),
                happens=self._some(shape, 4),
                cents=self._times_typical(card, shape, 4.0, 9.0),
                merchant=np.where(online, self._online(shape), shop),
                channel=np.where(online, ECOM, POS),
                city=home[:, None],
                device=np.where(online, self._strange_device(len(card))[:, None], NONE),
                address=np.where(online, self._strange_address((len(card), 1)), NONE),
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
        return self._rows(
            _Attack(
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

    # ---- parts

    def _begin(self, count: int) -> tuple[Ints, Ints, Ints]:
        """Cards, the begin of their attacks, and the cities their owners are in."""
        anchors = self._victims.draw(count)
        rows = self._victims.rows
        begin = rows.time[anchors] + self._random.integers(5 * 60_000, 2 * HOUR_MS, len(anchors))
        return rows.card[anchors], begin, rows.city[anchors]

    def _some(self, shape: tuple[int, int], at_least: int) -> Mask:
        """In each row the first `at_least` to all."""
        counts = self._random.integers(at_least, shape[1] + 1, (shape[0], 1))
        found: Mask = np.arange(shape[1]) < counts
        return found

    def _times_typical(self, card: Ints, shape: tuple[int, int], low: float, high: float) -> Ints:
        typical = self._world.card_typical[card][:, None]
        return (typical * self._random.uniform(low, high, shape)).astype(np.int64)

    def _online(self, shape: tuple[int, int]) -> Ints:
        return self._random.integers(TRUSTED, self._world.obscure, shape)

    def _obscure(self, shape: tuple[int, int]) -> Ints:
        return self._random.integers(self._world.obscure, self._world.atms, shape)

    def _strange_device(self, count: int) -> Ints:
        return (self._world.users + self._random.integers(0, 1 << 20, count)) * DEVICES

    def _strange_address(self, shape: tuple[int, ...]) -> Ints:
        return self._random.integers(3 * self._world.users, len(self._world.addresses), shape)

    def _different_addresses(self, shape: tuple[int, int]) -> Ints:
        first = 3 * self._world.users
        room = len(self._world.addresses) - first
        return first + (self._random.integers(0, room, (shape[0], 1)) + np.arange(shape[1]) * 7) % room

    def _rows(self, attack: _Attack) -> Rows:
        keep = attack.happens.ravel()

        def kept(values: Ints) -> Ints:
            return np.broadcast_to(values, attack.time.shape).ravel()[keep]

        merchant, city, channel = kept(attack.merchant), kept(attack.city), kept(attack.channel)
        count = len(merchant)
        jitter = self._random.uniform(-0.03, 0.03, (2, count))
        online = channel == ECOM
        return Rows(
            card=kept(attack.card[:, None]),
            merchant=merchant,
            terminal=self._world.terminal(merchant, self._random.random(count)),
            device=kept(attack.device),
            address=kept(attack.address),
            cents=kept(attack.cents),
            city=city,
            lat=np.where(online, _LAT[city] + jitter[0], self._world.merchant_lat[merchant]),
            lon=np.where(online, _LON[city] + jitter[1], self._world.merchant_lon[merchant]),
            channel=channel,
            time=kept(attack.time),
            kind=np.full(count, NONE),
            attack=kept(np.arange(len(attack.card))[:, None]),
        )
