"""What card holders do: shop near home by day, online in the evening, travel now and then.

It must rarely look like fraud, yet not never: some buy twice within a minute, some travel, some have a new phone, some
buy a sofa, some appear abroad because of a VPN.
"""

from __future__ import annotations

__all__ = ["legitimate_rows"]

import msgspec
import numpy as np
import numpy.typing as npt

from streamproc.services.generator.options import DAY_MS, GeneratorOptions
from streamproc.services.generator.places import CITIES, MCCS, distance_km
from streamproc.services.generator.rows import LEGITIMATE, NONE, Rows
from streamproc.services.generator.world import ATM, ATMS_A_CITY, DEVICES, ECOM, POS, TRUSTED, World

Ints = npt.NDArray[np.int64]

HOUR_MS = 3_600_000
# Payments by hour of the local day.
_RHYTHM = (2, 1, 1, 1, 1, 2, 5, 9, 12, 12, 13, 15, 18, 16, 14, 14, 16, 19, 20, 18, 14, 10, 7, 4)
_AGAIN_SHARE, _VPN_SHARE, _SOFA_SHARE, _TICKET_SHARE = 0.02, 0.0003, 0.0015, 0.01
_TRAVELLERS, _NEW_PHONES = 0.12, 0.06
_PLANE_KMH, _AIRPORT_HOURS = 700.0, 2.0
_LAT = np.array([city.lat for city in CITIES])
_LON = np.array([city.lon for city in CITIES])
_ZONE_MS = np.round(_LON / 15).astype(np.int64) * HOUR_MS
_FACTOR = np.array([mcc.factor for mcc in MCCS])


def legitimate_rows(world: World, options: GeneratorOptions, count: int, random: np.random.Generator) -> Rows:
    """`count` payments, in no order."""
    assert options.start_ms is not None
    card = random.choice(world.cards, count, p=world.card_activity)
    time = _times(world, card, options, random)
    _buy_again(card, time, random)
    user = world.card_user[card]
    trips = _trips(world, options, random)
    city = trips.follow(user, time, world.user_city, random)
    away = city != world.user_city[user]
    channel = random.choice(np.array([POS, ECOM, ATM], np.int64), count, p=[0.62, 0.32, 0.06])
    merchant = _merchants(world, random, user=user, city=city, channel=channel, away=away)
    online = channel == ECOM
    far = np.flatnonzero(online & (random.random(count) < _VPN_SHARE))
    seen_city = city.copy()
    seen_city[far] = random.integers(0, world.cities, len(far))
    lat, lon = _places(world, random, user=user, merchant=merchant, city=seen_city, online=online)
    return Rows(
        card=card,
        merchant=merchant,
        terminal=world.terminal(merchant, random.random(count)),
        device=_devices(world, options, random, user=user, time=time, channel=channel),
        address=np.where(online, _addresses(world, user, random), NONE),
        cents=_cents(world, card, merchant, channel, random),
        city=seen_city,
        lat=lat,
        lon=lon,
        channel=channel,
        time=time,
        kind=np.full(count, LEGITIMATE),
        attack=np.full(count, NONE),
    )


def _times(world: World, card: Ints, options: GeneratorOptions, random: np.random.Generator) -> Ints:
    """By the rhythm of the home's time zone, on any day, wrapped into the days asked for."""
    assert options.start_ms is not None
    share = np.cumsum((0, *_RHYTHM)) / sum(_RHYTHM)
    hours = np.interp(random.random(len(card)), share, np.arange(25))
    day = random.integers(0, options.days, len(card))
    start_of_day = options.start_ms % DAY_MS
    zone = _ZONE_MS[world.user_city[world.card_user[card]]]
    since = day * DAY_MS + (hours * HOUR_MS).astype(np.int64) - zone - start_of_day
    time: Ints = options.start_ms + since % (options.days * DAY_MS)
    return time


def _buy_again(card: Ints, time: Ints, random: np.random.Generator) -> None:
    """Some payments follow another of the same card at once: a coffee after the parking ticket."""
    count = int(len(card) * _AGAIN_SHARE)
    later = random.choice(len(card), 2 * count, replace=False)
    earlier, later = later[:count], later[count:]
    card[later] = card[earlier]
    time[later] = np.minimum(time[earlier] + random.integers(15_000, 180_000, count), time.max())


class _Trips(msgspec.Struct):
    """One a user: leave home, arrive, leave, are back (ms); no trip: beyond all times."""

    city: Ints
    leave: Ints
    arrive: Ints
    turn: Ints
    back: Ints

    def follow(self, user: Ints, time: Ints, home: Ints, random: np.random.Generator) -> Ints:
        """Where each payment happens; those that would fall into a flight move behind it (`time` changes)."""
        after = random.integers(60_000, 2 * HOUR_MS, len(time))
        for begin, end in ((self.leave, self.arrive), (self.turn, self.back)):
            flying = (time >= begin[user]) & (time < end[user])
            np.copyto(time, end[user] + after, where=flying)
        there = (time >= self.arrive[user]) & (time < self.turn[user])
        return np.where(there, self.city[user], home[user])


def _trips(world: World, options: GeneratorOptions, random: np.random.Generator) -> _Trips:
    assert options.start_ms is not None
    home = world.user_city
    city = (home + random.integers(1, world.cities, world.users)) % world.cities
    km = distance_km(_LAT[home], _LON[home], _LAT[city], _LON[city])
    flight = ((km / _PLANE_KMH + _AIRPORT_HOURS) * HOUR_MS).astype(np.int64)
    stay = random.integers(DAY_MS, 4 * DAY_MS, world.users)
    room = options.days * DAY_MS - (stay + 2 * flight + 4 * HOUR_MS)
    leave = options.start_ms + (random.random(world.users) * np.maximum(room, 1)).astype(np.int64)
    leave[(random.random(world.users) >= _TRAVELLERS) | (room <= 0)] = 1 << 60
    turn = leave + flight + stay
    return _Trips(city, leave, leave + flight, turn, turn + flight)


def _merchants(
    world: World, random: np.random.Generator, *, user: Ints, city: Ints, channel: Ints, away: npt.NDArray[np.bool_]
) -> Ints:
    count = len(user)
    any_shop = world.shops + city * world.shops_a_city + random.integers(0, world.shops_a_city, count)
    favourite = world.favourites[user, random.integers(0, world.favourites.shape[1], count)]
    shop = np.where(away | (random.random(count) < 0.2), any_shop, favourite)
    online = TRUSTED + ((world.obscure - TRUSTED) * random.random(count) ** 2).astype(np.int64)
    draw = random.random(count)
    obscure = world.obscure + random.integers(0, world.atms - world.obscure, count)
    online = np.where(draw < 0.012, obscure, np.where(draw > 0.93, random.integers(0, TRUSTED, count), online))
    cash = world.atms + city * ATMS_A_CITY + random.integers(0, ATMS_A_CITY, count)
    return np.choose(channel, [shop, online, cash])


def _places(
    world: World, random: np.random.Generator, *, user: Ints, merchant: Ints, city: Ints, online: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where the terminal stands; online: at home, or wherever the user is."""
    jitter = random.uniform(-0.03, 0.03, (2, len(user)))
    at_home = city == world.user_city[user]
    lat = np.where(at_home, world.user_lat[user], _LAT[city]) + jitter[0]
    lon = np.where(at_home, world.user_lon[user], _LON[city]) + jitter[1]
    return np.where(online, lat, world.merchant_lat[merchant]), np.where(online, lon, world.merchant_lon[merchant])


def _devices(
    world: World, options: GeneratorOptions, random: np.random.Generator, *, user: Ints, time: Ints, channel: Ints
) -> Ints:
    """Online: phone or laptop; in a shop: the phone, or none (the card itself). Some get a new phone."""
    assert options.start_ms is not None
    new_at = options.start_ms + (random.random(world.users) * options.days * DAY_MS).astype(np.int64)
    new_at[random.random(world.users) >= _NEW_PHONES] = 1 << 60
    phone = np.where(time >= new_at[user], 2, 0)
    draw = random.random(len(user))
    which = np.where((channel == ECOM) & (draw < 0.25), 1, phone)
    has = (channel == ECOM) | ((channel == POS) & (draw < 0.4))
    return np.where(has, user * DEVICES + which, NONE)


def _addresses(world: World, user: Ints, random: np.random.Generator) -> Ints:
    """At home, at work, or in the mobile network of where they live."""
    draw = random.random(len(user))
    order = np.argsort(world.user_city, kind="stable")
    begin = np.searchsorted(world.user_city[order], np.arange(world.cities + 1))
    city = world.user_city[user]
    neighbour = begin[city] + random.integers(0, world.users, len(user)) % (begin[city + 1] - begin[city])
    mobile = 2 * world.users + order[neighbour]
    return np.where(draw < 0.6, user * 2, np.where(draw < 0.85, user * 2 + 1, mobile))


def _cents(world: World, card: Ints, merchant: Ints, channel: Ints, random: np.random.Generator) -> Ints:
    count = len(card)
    spread = np.exp(0.55 * random.standard_normal(count, np.float32))
    amount = world.card_typical[card] * _FACTOR[world.merchant_mcc[merchant]] * spread
    draw = random.random(count)
    sofa = draw < _SOFA_SHARE
    amount[sofa] *= random.uniform(4, 10, int(sofa.sum()))
    ticket = (channel == POS) & (draw > 1 - _TICKET_SHARE)
    amount[ticket] = random.integers(100, 401, int(ticket.sum()))
    cash = channel == ATM
    notes = np.clip(np.round(amount / 2_000), 1, 15) * 2_000
    cents: Ints = np.where(cash, notes, np.maximum(np.round(amount), 50)).astype(np.int64)
    return cents
