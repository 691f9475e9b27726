"""What may be chosen of the generated traffic."""

from __future__ import annotations

__all__ = ["FRAUD_KINDS", "SEQUENCE_KINDS", "GeneratorOptions"]

import time

import msgspec

from state.errors import ConfigError

SEQUENCE_KINDS = (
    "account_takeover",
    "reset_then_transfer",
    "bust_out",
    "bin_enumeration",
    "decline_probing",
    "small_then_large",
    "travel_then_fallback",
)
"""Those that only a sequence tells; card_testing is told by its features, too."""
FRAUD_KINDS = (
    "velocity_attack",
    "distributed_attack",
    "geo_spoofing",
    "card_testing",
    "stolen_card",
    "terminal_compromise",
    *SEQUENCE_KINDS,
)
EVENTS_MIN = 500
DAY_MS = 86_400_000
_CARDS_MIN = 60
_EVENTS_A_CARD = 40


class GeneratorOptions(msgspec.Struct, frozen=True):
    """How much of what; the same options give the same traffic, byte for byte.

    `events`: payments, planted ones among them. `cards`: 0 means one for each 40 events. `fraud_share`: of the
    payments, about. `start_ms`: the first event time at the earliest; None: the last midnight (UTC) less `days`, so
    that from day to day only ids and dates differ. `shuffled_share` of the records arrive up to `shuffle_ms` late;
    `duplicate_share` arrive a second time, beyond `events`. `planted_after`: the share of the days before the first
    fraud, in which cards make their history. `kinds` of frauds are planted.
    """

    events: int = 60_000
    seed: int = 42
    cards: int = 0
    days: int = 14
    fraud_share: float = 0.01
    start_ms: int | None = None
    shuffled_share: float = 0.0
    shuffle_ms: int = 600_000
    duplicate_share: float = 0.0
    planted_after: float = 0.3
    kinds: tuple[str, ...] = FRAUD_KINDS

    def checked(self) -> GeneratorOptions:
        """The same with `cards` and `start_ms` filled in.

        Raises:
            ConfigError: they ask for what cannot be generated.
        """
        _refuse(self.events < EVENTS_MIN, f"{self.events} events are too few", f"at least {EVENTS_MIN}")
        _refuse(not 0 <= self.fraud_share <= 0.25, f"a fraud share of {self.fraud_share}", "between 0 and 0.25")
        _refuse(self.cards and self.cards < _CARDS_MIN, f"{self.cards} cards are too few", f"at least {_CARDS_MIN}")
        _refuse(not 2 <= self.days <= 365, f"{self.days} days", "between 2 and 365")
        _refuse(self.seed < 0, f"a seed of {self.seed}", "0 or more")
        for share in (self.shuffled_share, self.duplicate_share, self.planted_after):
            _refuse(not 0 <= share <= 0.9, f"a share of {share}", "between 0 and 0.9")
        unknown = sorted({*self.kinds} - {*FRAUD_KINDS})
        _refuse(unknown or not self.kinds, f"frauds of the kinds {unknown}", f"some of {', '.join(FRAUD_KINDS)}")
        now = time.time_ns() // 1_000_000
        start = (now // DAY_MS - self.days) * DAY_MS if self.start_ms is None else self.start_ms
        _refuse(start + self.days * DAY_MS > now, "its last payments would lie in the future", "an earlier start")
        cards = self.cards or max(_CARDS_MIN, self.events // _EVENTS_A_CARD)
        return msgspec.structs.replace(self, cards=cards, start_ms=start)


def _refuse(wrong: object, message: str, right: str) -> None:
    if wrong:
        raise ConfigError(f"the generator cannot make {message}", hint=right)
