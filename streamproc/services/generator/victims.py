"""Whom it hits: cards with a history, each attacked once while there are enough of them."""

from __future__ import annotations

__all__ = ["HOUR_MS", "Victims"]

import numpy as np
import numpy.typing as npt

from streamproc.services.generator.options import DAY_MS, GeneratorOptions
from streamproc.services.generator.places import MUMBAI
from streamproc.services.generator.rows import Rows
from streamproc.services.generator.world import POS, PRODUCTS, World

Ints = npt.NDArray[np.int64]

HOUR_MS = 3_600_000
_ROOM_AT_END_MS = 30 * HOUR_MS
_HISTORY = 5
_VISITORS = 5
_PICKS_MAX = 100_000


class Victims:
    """Draws *anchors*: ordinary payments (places in `rows`) after which an attack begins.

    `drawn`: those that attacks refer to.
    """

    def __init__(self, world: World, rows: Rows, options: GeneratorOptions, random: np.random.Generator) -> None:
        assert options.start_ms is not None
        self.rows = rows
        self._random = random
        span = options.days * DAY_MS
        self.begin = options.start_ms + int(span * options.planted_after)
        self.end = options.start_ms + span - _ROOM_AT_END_MS
        early = np.bincount(rows.card[rows.time < self.begin], minlength=world.cards)
        inside = (rows.time >= self.begin) & (rows.time < self.end)
        order = random.permutation(np.flatnonzero(inside))
        _, first = np.unique(rows.card[order], return_index=True)
        self._anchors = order[np.sort(first)]  # one a card, in random order
        self._anchors = self._anchors[np.argsort(early[rows.card[self._anchors]] < _HISTORY, kind="stable")]
        self.drawn = np.empty(0, np.int64)
        self._taken = np.zeros(world.cards, np.bool_)
        self._index_terminals(inside)
        in_mumbai = inside & (rows.city == MUMBAI) & (rows.channel == POS)
        in_mumbai &= world.user_city[world.card_user[rows.card]] == MUMBAI
        self._in_mumbai = order[in_mumbai[order]]

    def draw(self, count: int) -> Ints:
        """Anchors of cards not drawn yet; of any, once all are."""
        return self._draw(self._anchors, count)

    def draw_in_mumbai(self, count: int) -> Ints:
        """The same, shopping in Mumbai, where they live."""
        return self._draw(self._in_mumbai, count)

    def at_one_terminal(self, cards_max: int) -> Ints:
        """Payments of different cards at one terminal within two days; empty if no card is left."""
        rows = self.rows
        while self._picks:
            pick = self._picks.pop()
            if self._taken[rows.card[pick]]:
                continue
            here = slice(*np.searchsorted(self._terminals, (rows.terminal[pick], rows.terminal[pick] + 1)).tolist())
            near = self._visits[here]
            near = near[(np.abs(rows.time[near] - rows.time[pick]) < DAY_MS) & ~self._taken[rows.card[near]]]
            return self._draw(self._random.permutation(near), cards_max)
        return np.empty(0, np.int64)

    def of_one_issuer(self, world: World, cards: int) -> Ints:
        """Payments of so many different cards of one BIN; fewer if nobody issued as many, empty if no card is left.

        They say who there is; an attack refers to none of them.
        """
        rows = self.rows
        free: Ints = self._anchors[~self._taken[rows.card[self._anchors]]]
        if not len(free):
            return free
        city, product = world.issued[:, rows.card[free]]
        issuers, sizes = np.unique(city * len(PRODUCTS) + product, return_counts=True)
        large = issuers[sizes >= min(cards, int(sizes.max()))]
        mine: Ints = free[city * len(PRODUCTS) + product == self._random.choice(large)]
        return self._take(mine, cards)

    def _index_terminals(self, inside: npt.NDArray[np.bool_]) -> None:
        """Shop payments by terminal; those at terminals that many cards used are where copying pays."""
        rows = self.rows
        places = np.flatnonzero(inside & (rows.channel == POS))
        self._visits = places[np.argsort(rows.terminal[places], kind="stable")]
        self._terminals = rows.terminal[self._visits]
        pairs = np.unique(self._terminals * (int(rows.card.max()) + 1) + rows.card[self._visits])
        visitors = np.bincount(pairs // (int(rows.card.max()) + 1))[self._terminals]
        busy = self._visits[visitors >= min(_VISITORS, int(visitors.max(initial=0)))]
        self._picks: list[int] = self._random.permutation(busy)[:_PICKS_MAX].tolist()

    def _draw(self, anchors: Ints, count: int) -> Ints:
        chosen = self._take(anchors, count)
        self.drawn = np.concatenate([self.drawn, chosen])
        return chosen

    def _take(self, anchors: Ints, count: int) -> Ints:
        """So many anchors of cards that are free, which they are no longer."""
        free = anchors[~self._taken[self.rows.card[anchors]]]
        _, first = np.unique(self.rows.card[free], return_index=True)
        chosen = free[np.sort(first)][:count]
        self._taken[self.rows.card[chosen]] = True
        return chosen
