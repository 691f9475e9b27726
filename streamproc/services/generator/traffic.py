"""One stream of the whole: ordinary payments and planted ones, in order of event time or as they arrive."""

from __future__ import annotations

__all__ = ["Traffic", "generate"]

import msgspec
import numpy as np
import numpy.typing as npt

from streamproc.services.generator.account import AccountEvents, draw_account_events
from streamproc.services.generator.credentials import Credentials, draw_credentials
from streamproc.services.generator.frauds import fraud_rows
from streamproc.services.generator.legitimate import legitimate_rows
from streamproc.services.generator.options import DAY_MS, GeneratorOptions
from streamproc.services.generator.rows import LEGITIMATE, Rows, concatenate
from streamproc.services.generator.victims import Victims
from streamproc.services.generator.world import World, make_world

Ints = npt.NDArray[np.int64]

_SPARE = 1.12
_QUIET_MS = DAY_MS
_OF_CREDENTIALS, _OF_ACCOUNTS = 1, 2


class Traffic(msgspec.Struct, frozen=True):
    """Generated payments.

    `rows`: one a payment, in order of event time; its place is its number. `credentials`: of each. `arrival`: numbers
    in the order in which records arrive; a number that comes twice is a duplicate. `account`: what users do with their
    accounts.
    """

    options: GeneratorOptions
    world: World
    rows: Rows
    credentials: Credentials
    arrival: Ints
    account: AccountEvents

    @property
    def ids(self) -> list[str]:
        """Transaction ids by number: 16 hexadecimal digits that say nothing."""
        return self._names(len(self.rows.card), 0)

    @property
    def account_ids(self) -> list[str]:
        """Those of the account events, alike."""
        return self._names(len(self.account.time), _OF_ACCOUNTS)

    def _names(self, count: int, what: int) -> list[str]:
        assert self.options.start_ms is not None
        mixed = np.arange(count, dtype=np.uint64) + np.uint64(self.options.start_ms << 20)
        mixed ^= np.uint64((self.options.seed * 0x9E3779B97F4A7C15 + (what << 40)) & 0xFFFFFFFFFFFFFFFF)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64: no two become equal
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        text = (mixed ^ (mixed >> np.uint64(31))).astype(">u8").tobytes().hex()
        return [text[i : i + 16] for i in range(0, len(text), 16)]

    @property
    def frauds(self) -> Ints:
        """Numbers of the planted payments."""
        return np.flatnonzero(self.rows.kind != LEGITIMATE)


def generate(options: GeneratorOptions) -> Traffic:
    """Make the traffic that `options` describe.

    Raises:
        ConfigError: they ask for what cannot be generated.
    """
    options = options.checked()
    random = np.random.Generator(np.random.SFC64(options.seed))
    world = make_world(options, random)
    spare = int(options.events * _SPARE) + 100
    rows = legitimate_rows(world, options, spare if options.fraud_share else options.events, random)
    if options.fraud_share:
        rows = _with_frauds(world, rows, options, random)
    rows = rows.pick(np.argsort(rows.time, kind="stable"))
    shown = draw_credentials(rows, np.random.Generator(np.random.SFC64([options.seed, _OF_CREDENTIALS])))
    account = draw_account_events(
        world, rows, options, np.random.Generator(np.random.SFC64([options.seed, _OF_ACCOUNTS]))
    )
    return Traffic(options, world, rows, shown, _arrival(rows.time, options, random), account)


def _with_frauds(world: World, rows: Rows, options: GeneratorOptions, random: np.random.Generator) -> Rows:
    """Plant frauds, and let owners be quiet for a day afterwards: their cards are blocked."""
    victims = Victims(world, rows, options, random)
    frauds = fraud_rows(world, victims, round(options.events * options.fraud_share), options.kinds, random)
    wanted = options.events - len(frauds.card)
    begin = np.full(world.cards, 1 << 62)
    np.minimum.at(begin, frauds.card, frauds.time)
    end = np.full(world.cards, -1)
    np.maximum.at(end, frauds.card, frauds.time)
    blocked = (rows.time >= begin[rows.card]) & (rows.time < end[rows.card] + _QUIET_MS)
    rank = blocked + random.random(len(blocked))
    rank[victims.drawn] = -1.0  # what an attack refers to must stay
    order = np.argsort(rank, kind="stable")
    return concatenate([rows.pick(order[:wanted]), frauds])


def _arrival(time: Ints, options: GeneratorOptions, random: np.random.Generator) -> Ints:
    """Numbers in order of arrival."""
    count = len(time)
    numbers = np.arange(count)
    if not options.shuffled_share and not options.duplicate_share:
        return numbers
    at = time + 0
    late = random.random(count) < options.shuffled_share
    at[late] += random.integers(1, max(2, options.shuffle_ms), int(late.sum()))
    again = np.flatnonzero(random.random(count) < options.duplicate_share)
    numbers = np.concatenate([numbers, again])
    at = np.concatenate([at, at[again] + random.integers(1, 60_000, len(again))])
    return numbers[np.argsort(at, kind="stable")]
