"""Counts and sums of decided payments, and what is said of them: rates, values, ratios.

A figure that nothing can be said of (its denominator is 0) is None. Of frauds and legitimate payments only those count
whose label is known.
"""

from __future__ import annotations

__all__ = ["Measures", "measured_by"]

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation.decisions import BLOCKING, CHALLENGING, Decisions

BPS = 10_000


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


class Measures(msgspec.Struct, frozen=True):
    """Of some payments. An alert is any action but the mildest; values are sums of amounts."""

    payments: int
    labelled: int
    frauds: int
    alerts: int
    declines: int
    challenges: int
    labelled_alerts: int
    frauds_alerted: int
    frauds_declined: int
    insults: int
    """Legitimate payments that were declined."""
    value: float
    """Of payments whose label is known."""
    fraud_value: float
    fraud_value_alerted: float
    fraud_value_declined: float

    @property
    def legitimate(self) -> int:
        """Known to be none of the frauds."""
        return self.labelled - self.frauds

    @property
    def false_alerts(self) -> int:
        """Legitimate payments among the alerts."""
        return self.labelled_alerts - self.frauds_alerted

    @property
    def alert_rate(self) -> float | None:
        """Alerts by payments."""
        return _share(self.alerts, self.payments)

    @property
    def decline_rate(self) -> float | None:
        """Declined by all payments."""
        return _share(self.declines, self.payments)

    @property
    def challenge_rate(self) -> float | None:
        """Challenged by all payments."""
        return _share(self.challenges, self.payments)

    @property
    def approval_rate(self) -> float | None:
        """Payments with the mildest action, by all."""
        return _share(self.payments - self.alerts, self.payments)

    @property
    def precision(self) -> float | None:
        """Frauds by alerts."""
        return _share(self.frauds_alerted, self.labelled_alerts)

    @property
    def detection_rate(self) -> float | None:
        """Alerted by all frauds: recall."""
        return _share(self.frauds_alerted, self.frauds)

    @property
    def value_detection_rate(self) -> float | None:
        """The value of alerted frauds by that of all."""
        return _share(self.fraud_value_alerted, self.fraud_value)

    @property
    def real_time_value_detection_rate(self) -> float | None:
        """The value of declined frauds by that of all: what never left."""
        return _share(self.fraud_value_declined, self.fraud_value)

    @property
    def false_positive_ratio(self) -> float | None:
        """Legitimate payments alerted for each fraud alerted: the n of n:1."""
        return _share(self.false_alerts, self.frauds_alerted)

    @property
    def false_positive_rate(self) -> float | None:
        """Alerted by all legitimate payments."""
        return _share(self.false_alerts, self.legitimate)

    @property
    def insult_rate(self) -> float | None:
        """Declined by all legitimate payments."""
        return _share(self.insults, self.legitimate)

    @property
    def fraud_bps(self) -> float | None:
        """The value of frauds by that of all payments, in basis points."""
        share = _share(self.fraud_value, self.value)
        return None if share is None else share * BPS

    def saved(self, alert_cost: float, insult_cost: float) -> float:
        """The value of alerted frauds, less what alerts and declined legitimate payments cost.

        As if each alert were looked at, and each alerted fraud came to nothing.
        """
        return self.fraud_value_alerted - alert_cost * self.alerts - insult_cost * self.insults


def measured_by(
    found: Decisions, codes: npt.NDArray[np.int64], size: int, blocking: Sequence[str] = BLOCKING
) -> list[Measures]:
    """Of each group 0 .. size - 1 of payments.

    Args:
        found: the payments.
        codes: the group of each, -1: of none.
        size: how many groups there are.
        blocking: the actions that refuse a payment.
    """
    inside = codes >= 0
    alerted, declined = found.alerted, found.whose(blocking)
    known, fraud = found.labels >= 0, found.labels == 1
    amounts = np.nan_to_num(found.amounts)

    def count(which: npt.NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.bincount(codes[inside & which], minlength=size).tolist()
        return counts

    def total(which: npt.NDArray[np.bool_]) -> list[float]:
        rows = inside & which
        sums: list[float] = np.bincount(codes[rows], amounts[rows], minlength=size).tolist()
        return sums

    columns: tuple[list[Any], ...] = (
        count(inside), count(known), count(fraud), count(alerted), count(declined), count(found.whose(CHALLENGING)),
        count(alerted & known), count(alerted & fraud), count(declined & fraud), count(declined & (found.labels == 0)),
        total(known), total(fraud), total(alerted & fraud), total(declined & fraud),
    )  # fmt: skip
    return [Measures(*row) for row in zip(*columns, strict=True)]
