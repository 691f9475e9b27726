"""Who and what there is: users and their cards, devices and homes; merchants and their terminals.

Everything is an index into arrays; only records turn indices into names.

Merchants by index: 3 trusted ones, then online shops, obscure online shops (low reputation), cash machines and
shops by city. A merchant has up to `TERMINALS` terminals: terminal = merchant * TERMINALS + 0..2.
"""

from __future__ import annotations

__all__ = [
    "ATM",
    "ECOM",
    "OTP_LIMITS",
    "POS",
    "PRODUCTS",
    "REPORTED_STOLEN",
    "TERMINALS",
    "TRUSTED",
    "World",
    "make_world",
]

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamproc.services.generator.options import GeneratorOptions
from streamproc.services.generator.places import CITIES, MCCS, MUMBAI, home_ip, hosted_ip, mobile_ip

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

POS, ECOM, ATM = 0, 1, 2
PRODUCTS = ("standard", "gold", "business")
REPUTATIONS = ("low", "medium", "high")
LOW, MEDIUM, HIGH = 0, 1, 2
OTP_LIMITS = np.array([3_000, 5_000, 10_000])
"""Of each product, in cents: what lists/thresholds.csv of configs/card_fraud says."""
REPORTED_STOLEN = (13, 666, 1999)
"""Numbers of cards on lists/blocked_cards.csv: their owners have new ones, only thieves still pay with them."""
TRUSTED, TERMINALS, DEVICES, ATMS_A_CITY = 3, 3, 3, 4
_JITTER_DEGREES = 0.06
_CARDS_A_CITY = 40
_OF_MCC = {mcc.code: i for i, mcc in enumerate(MCCS)}
_SHOP_MCCS = [_OF_MCC[code] for code in ("5411", "5541", "5812", "5912", "4111", "5651", "5732", "5999")]
_ONLINE_MCCS = [_OF_MCC[code] for code in ("5815", "5999", "5651", "5732", "4511")]
_OBSCURE_MCCS = [_OF_MCC[code] for code in ("5999", "5815", "7995", "6051")]


class World(msgspec.Struct, frozen=True):
    """Arrays by user, card, merchant and address; counts and where the blocks of merchants begin."""

    cities: int
    users: int
    user_city: Ints
    user_lat: Floats
    user_lon: Floats
    card_user: Ints
    card_product: Ints
    card_typical: Floats  # cents: the median of an ordinary purchase
    card_activity: Floats  # shares, sum 1; 0 for cards that were reported stolen
    merchant_mcc: Ints
    merchant_reputation: Ints
    merchant_lat: Floats
    merchant_lon: Floats
    merchant_terminals: Ints
    favourites: Ints  # (users, 8): shops near home
    obscure: int
    atms: int
    shops: int
    shops_a_city: int
    addresses: npt.NDArray[np.object_]  # IPs: two a user, then one each in a mobile network, then those of strangers

    @property
    def issued(self) -> Ints:
        """(2, cards): the cities where they were issued, and their products."""
        return np.stack([self.user_city[self.card_user], self.card_product])

    @property
    def cards(self) -> int:
        """How many there are."""
        return len(self.card_user)

    def terminal(self, merchant: Ints, draw: Floats) -> Ints:
        """One of each merchant's terminals; `draw` in [0, 1)."""
        return merchant * TERMINALS + (draw * self.merchant_terminals[merchant]).astype(np.int64)


def make_world(options: GeneratorOptions, random: np.random.Generator) -> World:
    """The world of checked `options`."""
    cards = options.cards
    users = max(1, cards * 4 // 5)
    cities = int(np.clip(cards // _CARDS_A_CITY, 2, len(CITIES)))
    weights = np.array([city.weight for city in CITIES[:cities]], np.float64)
    user_city = random.choice(cities, users, p=weights / weights.sum())
    user_city[: max(1, users // 20)] = MUMBAI
    card_user = np.concatenate([np.arange(users), random.integers(0, users, cards - users)])
    product = random.choice(3, cards, p=[0.7, 0.22, 0.08])
    activity = random.gamma(2.0, 1.0, cards) + 0.2
    activity[[number - 1 for number in REPORTED_STOLEN if number <= cards]] = 0.0
    lat, lon = _near(user_city, random)
    shops_a_city = int(np.clip(cards // cities // 4, 8, 80))
    return World(
        cities=cities,
        users=users,
        user_city=user_city,
        user_lat=lat,
        user_lon=lon,
        card_user=card_user,
        card_product=product,
        card_typical=np.array([1_800.0, 3_200.0, 6_000.0])[product] * np.exp(0.3 * random.standard_normal(cards)),
        card_activity=activity / activity.sum(),
        shops_a_city=shops_a_city,
        addresses=_addresses(user_city, cities, users * 4 + 4096),
        **_merchants(cities, shops_a_city, cards, user_city, random),
    )


def _merchants(
    cities: int, shops_a_city: int, cards: int, user_city: Ints, random: np.random.Generator
) -> dict[str, Any]:
    online, obscure_count = int(np.clip(cards // 10, 40, 400)), int(np.clip(cards // 20, 25, 200))
    obscure = TRUSTED + online
    atms = obscure + obscure_count
    shops = atms + cities * ATMS_A_CITY
    count = shops + cities * shops_a_city
    city = np.zeros(count, np.int64)
    city[atms:shops] = np.repeat(np.arange(cities), ATMS_A_CITY)
    city[shops:] = np.repeat(np.arange(cities), shops_a_city)
    mcc = np.empty(count, np.int64)
    mcc[:TRUSTED] = [_OF_MCC[code] for code in ("4112", "6300", "4900")]
    mcc[TRUSTED:obscure] = random.choice(_ONLINE_MCCS, online, p=[0.3, 0.35, 0.2, 0.1, 0.05])
    mcc[obscure:atms] = random.choice(_OBSCURE_MCCS, obscure_count)
    mcc[atms:shops] = _OF_MCC["6011"]
    mcc[shops:] = random.choice(_SHOP_MCCS, count - shops, p=[0.3, 0.1, 0.25, 0.08, 0.1, 0.07, 0.03, 0.07])
    reputation = random.choice([MEDIUM, HIGH], count, p=[0.45, 0.55])
    reputation[:TRUSTED] = reputation[atms:shops] = HIGH
    reputation[obscure:atms] = LOW
    lat, lon = _near(city, random)
    terminals = random.integers(1, TERMINALS + 1, count)
    terminals[:shops] = 1
    rank = (shops_a_city * random.random((len(user_city), 8)) ** 1.5).astype(np.int64)  # some shops are popular
    return {
        "merchant_mcc": mcc,
        "merchant_reputation": reputation,
        "merchant_lat": lat,
        "merchant_lon": lon,
        "merchant_terminals": terminals,
        "favourites": shops + user_city[:, None] * shops_a_city + rank,
        "obscure": obscure,
        "atms": atms,
        "shops": shops,
    }


def _near(city: Ints, random: np.random.Generator) -> tuple[Floats, Floats]:
    """A place in each city."""
    places = np.array([(place.lat, place.lon) for place in CITIES])
    jitter = random.uniform(-_JITTER_DEGREES, _JITTER_DEGREES, (2, len(city)))
    return places[city, 0] + jitter[0], places[city, 1] + jitter[1]


def _addresses(user_city: Ints, cities: int, count: int) -> npt.NDArray[np.object_]:
    """Strangers come from data centres and, every other one, from somebody's line in some city."""
    home = [home_ip(city, 2 * i + which) for i, city in enumerate(user_city.tolist()) for which in (0, 1)]
    mobile = [mobile_ip(city, i) for i, city in enumerate(user_city.tolist())]
    room = range(count - 3 * len(user_city))
    strange = [hosted_ip(i) if i % 2 else home_ip(i // 2 % cities, 0xFFFF - i // 2) for i in room]
    made = np.empty(count, np.object_)
    made[:] = home + mobile + strange
    return made
