"""What attacks of all kinds are made of: whom they hit, where, from which devices, and the rows that come of it."""

from __future__ import annotations

__all__ = ["Attack", "AttackMaker"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamproc.services.generator.places import CITIES
from streamproc.services.generator.rows import NONE, Rows
from streamproc.services.generator.victims import HOUR_MS, Victims
from streamproc.services.generator.world import DEVICES, ECOM, TRUSTED, World

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_LAT = np.array([city.lat for city in CITIES])
_LON = np.array([city.lon for city in CITIES])


class Attack(NamedTuple):
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


class AttackMaker:
    """The parts; all draw from the same `random`."""

    def __init__(self, world: World, victims: Victims, random: np.random.Generator) -> None:
        self.world = world
        self.victims = victims
        self.random = random

    def begin(self, count: int) -> tuple[Ints, Ints, Ints]:
        """Cards, the begin of their attacks, and the cities their owners are in."""
        anchors = self.victims.draw(count)
        rows = self.victims.rows
        begin = rows.time[anchors] + self.random.integers(5 * 60_000, 2 * HOUR_MS, len(anchors))
        return rows.card[anchors], begin, rows.city[anchors]

    def some(self, shape: tuple[int, int], at_least: int) -> Mask:
        """In each row the first `at_least` to all."""
        counts = self.random.integers(at_least, shape[1] + 1, (shape[0], 1))
        found: Mask = np.arange(shape[1]) < counts
        return found

    def times_typical(self, card: Ints, shape: tuple[int, int], low: float, high: float) -> Ints:
        typical = self.world.card_typical[card][:, None]
        return (typical * self.random.uniform(low, high, shape)).astype(np.int64)

    def online(self, shape: tuple[int, int]) -> Ints:
        return self.random.integers(TRUSTED, self.world.obscure, shape)

    def obscure(self, shape: tuple[int, int]) -> Ints:
        return self.random.integers(self.world.obscure, self.world.atms, shape)

    def strange_device(self, count: int) -> Ints:
        return (self.world.users + self.random.integers(0, 1 << 20, count)) * DEVICES

    def strange_address(self, shape: tuple[int, ...]) -> Ints:
        return self.random.integers(3 * self.world.users, len(self.world.addresses), shape)

    def different_addresses(self, shape: tuple[int, int]) -> Ints:
        first = 3 * self.world.users
        room = len(self.world.addresses) - first
        return first + (self.random.integers(0, room, (shape[0], 1)) + np.arange(shape[1]) * 7) % room

    def rows(self, attack: Attack) -> Rows:
        keep = attack.happens.ravel()

        def kept(values: Ints) -> Ints:
            return np.broadcast_to(values, attack.time.shape).ravel()[keep]

        merchant, city, channel = kept(attack.merchant), kept(attack.city), kept(attack.channel)
        count = len(merchant)
        jitter = self.random.uniform(-0.03, 0.03, (2, count))
        online = channel == ECOM
        return Rows(
            card=kept(attack.card[:, None]),
            merchant=merchant,
            terminal=self.world.terminal(merchant, self.random.random(count)),
            device=kept(attack.device),
            address=kept(attack.address),
            cents=kept(attack.cents),
            city=city,
            lat=np.where(online, _LAT[city] + jitter[0], self.world.merchant_lat[merchant]),
            lon=np.where(online, _LON[city] + jitter[1], self.world.merchant_lon[merchant]),
            channel=channel,
            time=kept(attack.time),
            kind=np.full(count, NONE),
            attack=kept(np.arange(len(attack.card))[:, None]),
        )
