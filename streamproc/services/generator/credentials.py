"""How a card presents itself: the entry mode at the terminal, and what the issuer said of the code on its back, and of
the payment before.

Drawn after all payments are there, from random numbers of its own. Thieves who copied a stripe swipe it; thieves who
only have numbers guess the code; owners mistype it now and then.
"""

from __future__ import annotations

__all__ = ["CVV_RESULTS", "ENTRY_MODES", "RESPONSES", "Credentials", "draw_credentials"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamproc.services.generator.options import FRAUD_KINDS
from streamproc.services.generator.rows import NONE, Rows
from streamproc.services.generator.world import ATM, ECOM, POS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ENTRY_MODES = ("chip", "contactless", "swipe", "fallback", "online", "wallet")
"""`fallback`: a stripe that was read because the chip could not be."""
CVV_RESULTS = ("match", "mismatch")
RESPONSES = ("00", "51", "N7")
"""Approved; no funds; wrong code."""
_MATCH, _MISMATCH = 0, 1
_NO_FUNDS = RESPONSES.index("51")
_WALLET_SHARE = 0.2

# Shares of chip, contactless, swipe and fallback where the card is there.
_IN_SHOPS = (0.38, 0.60, 0.019, 0.001)
_COPIED_STRIPE = (0.0, 0.0, 0.3, 0.7)
_PRESENT = {
    "geo_spoofing": (0.2, 0.2, 0.5, 0.1),
    "stolen_card": (0.1, 0.9, 0.0, 0.0),
    "terminal_compromise": _COPIED_STRIPE,
    "travel_then_fallback": (0.0, 0.0, 0.0, 1.0),
}
_MISTYPED = 0.004
_WITHOUT_FUNDS = 0.015
_GUESSED = {"card_testing": 0.5, "distributed_attack": 0.4, "velocity_attack": 0.1, "bin_enumeration": 1.0}
_DECLINED = ("decline_probing",)


class Credentials(NamedTuple):
    """One value a payment: index into ENTRY_MODES; index into CVV_RESULTS, or NONE where no code was asked for;
    index into RESPONSES of the answer to the card's payment before, or NONE if there was none.
    """

    entry: Ints
    cvv: Ints
    answered: Ints

    def pick(self, places: npt.NDArray[np.int64]) -> Credentials:
        """Those at `places`."""
        return Credentials(*(column[places] for column in self))


def draw_credentials(rows: Rows, random: np.random.Generator) -> Credentials:
    """Of all payments, in the order of `rows`."""
    count = len(rows.card)
    draw, again = random.random(count), random.random(count)
    bounds = np.tile(np.cumsum(_IN_SHOPS), (count, 1))
    bounds[rows.channel == ATM] = np.cumsum((0.97, 0.0, 0.028, 0.002))
    wrong = np.full(count, _MISTYPED)
    for code, kind in enumerate(FRAUD_KINDS):
        mine = rows.kind == code
        if kind in _PRESENT:
            bounds[mine] = np.cumsum(_PRESENT[kind])
        wrong[mine] = _GUESSED.get(kind, _MISTYPED)
    present = (draw[:, None] >= bounds[:, :3]).sum(axis=1)
    wallet = (draw < _WALLET_SHARE) & (rows.kind == NONE)
    online, in_wallet = ENTRY_MODES.index("online"), ENTRY_MODES.index("wallet")
    entry = np.where(rows.channel == ECOM, np.where(wallet, in_wallet, online), present)
    # A phone at the till is contactless.
    entry = np.where((rows.channel == POS) & (rows.device != NONE) & (rows.kind == NONE), 1, entry)
    cvv = np.where(entry == online, np.where(again < wrong, _MISMATCH, _MATCH), NONE)
    answer = np.where(cvv == _MISMATCH, 2, (random.random(count) < _WITHOUT_FUNDS).astype(np.int64))
    answer[np.isin(rows.kind, [FRAUD_KINDS.index(kind) for kind in _DECLINED])] = _NO_FUNDS
    return Credentials(entry, cvv, _before(rows.card, answer))


def _before(cards: Ints, values: Ints) -> Ints:
    """The value of each card's payment before; NONE for its first."""
    order = np.argsort(cards, kind="stable")  # `cards` are in order of time
    found = np.full(len(cards), NONE)
    same = cards[order[1:]] == cards[order[:-1]]
    found[order[1:][same]] = values[order[:-1][same]]
    return found
