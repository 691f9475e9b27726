"""Everything that is said of decided payments, as plain data; what cannot be said, and why."""

from __future__ import annotations

__all__ = ["Evaluation", "Named", "Period", "Quality", "Settings", "evaluated"]

import msgspec
import numpy as np

from models.evaluation.decisions import BLOCKING, CHALLENGING, Decisions, Groups
from models.evaluation.measures import Measures, measured_by
from models.evaluation.rules import RuleFigures, rule_figures
from models.evaluation.scores import (
    Bin,
    Point,
    brier,
    calibration,
    calibration_error,
    payment_precision,
    points,
)
from models.training.history import DAY_MS
from models.training.metrics import FALSE_POSITIVES, auc, average_precision, card_precision_by_day, recall_at

PERIODS_MAX = 62
VALUES_MAX = 20
POINTS = 160


class Settings(msgspec.Struct, frozen=True):
    """`capacity`: cards, and payments, that analysts look at in a day. Costs: of an alert, and of a declined legitimate
    payment, in the unit of the amounts. `blocking`: actions that refuse a payment.
    """

    capacity: int = 100
    alert_cost: float = 0.0
    insult_cost: float = 0.0
    blocking: tuple[str, ...] = BLOCKING


class Named(msgspec.Struct, frozen=True):
    """Payments of one value. `name`: None: all other values together."""

    name: str | None
    measures: Measures


class Period(msgspec.Struct, frozen=True):
    """`start`: days since 1970, UTC. The precisions: among the `capacity` highest scores, means of days."""

    start: int
    measures: Measures
    precision: float | None
    card_precision: float | None


class Quality(msgspec.Struct, frozen=True):
    """How well scores tell frauds from legitimate payments; the precisions are means over days."""

    payments: int
    frauds: int
    auc: float
    average_precision: float
    precision_at_k: float
    card_precision_at_k: float
    recall_at_budget: float
    brier: float
    calibration_error: float


class Evaluation(msgspec.Struct, frozen=True):
    """`quality` is None, and `points` and `bins` are empty, where scores cannot be judged; `missing` says why.

    `accounts`: cards with a fraud, and those of them of which a fraud was alerted.
    """

    overall: Measures
    per_action: tuple[tuple[str, int], ...]
    accounts: tuple[int, int]
    quality: Quality | None
    points: tuple[Point, ...]
    bins: tuple[Bin, ...]
    rules: tuple[RuleFigures, ...]
    kinds: tuple[Named, ...]
    segments: tuple[tuple[str, tuple[Named, ...]], ...]
    period_days: int
    periods: tuple[Period, ...]
    missing: tuple[str, ...]
    budget: float = FALSE_POSITIVES

    @property
    def account_detection_rate(self) -> float | None:
        """Cards with an alerted fraud by cards with a fraud."""
        cards, found = self.accounts
        return found / cards if cards else None


def evaluated(found: Decisions, settings: Settings) -> Evaluation:
    """Of at least one payment."""
    judged = found.judged
    frauds = int((judged.labels == 1).sum())
    whole = np.zeros(len(found.rows), np.int64)
    (overall,) = measured_by(found, whole, 1, settings.blocking)
    counts = np.bincount(found.action, minlength=len(found.actions)).tolist()
    quality, curve, bins = None, [], []
    if 0 < frauds < len(judged.rows):
        curve, bins = points(judged, POINTS), calibration(judged.labels, judged.scores)
        quality = _quality(judged, settings.capacity, bins)
    days, periods = _periods(found, judged if quality else None, settings)
    fraud = found.labels == 1
    cards = np.unique(found.cards[fraud])
    return Evaluation(
        overall=overall,
        per_action=tuple(zip(found.actions, counts, strict=True)),
        accounts=(len(cards), len(np.unique(found.cards[fraud & found.alerted]))),
        quality=quality,
        points=tuple(curve),
        bins=tuple(bins),
        rules=tuple(rule_figures(found)),
        kinds=_kinds(found, settings),
        segments=tuple((one.name, _named(found, one, settings)) for one in found.segments),
        period_days=days,
        periods=periods,
        missing=tuple(_missing(found, overall, settings)),
    )


def _quality(judged: Decisions, k: int, bins: list[Bin]) -> Quality:
    labels, scores = judged.labels, judged.scores
    return Quality(
        len(labels),
        int((labels == 1).sum()),
        auc(labels, scores),
        average_precision(labels, scores),
        float(np.mean(list(payment_precision(judged, k).values()))),
        float(np.mean(list(card_precision_by_day(judged.history, scores, k).values()))),
        recall_at(labels, scores),
        brier(labels, scores),
        calibration_error(bins),
    )


def _periods(found: Decisions, judged: Decisions | None, settings: Settings) -> tuple[int, tuple[Period, ...]]:
    """Days; where there are many of them weeks, or four weeks, each as long from the first day on."""
    days = found.times // DAY_MS
    first, last = int(days.min()), int(days.max())
    length = next((some for some in (1, 7) if (last - first) // some < PERIODS_MAX), 28)
    length = max(length, -(-(last - first + 1) // (4 * PERIODS_MAX)))
    codes = (days - first) // length
    size = int(codes.max()) + 1
    by_payment = {} if judged is None else payment_precision(judged, settings.capacity)
    by_card = {} if judged is None else card_precision_by_day(judged.history, judged.scores, settings.capacity)

    def mean(shares: dict[int, float], start: int) -> float | None:
        inside = [share for day, share in shares.items() if start <= day < start + length]
        return float(np.mean(inside)) if inside else None

    return length, tuple(
        Period(start, measures, mean(by_payment, start), mean(by_card, start))
        for place, measures in enumerate(measured_by(found, codes, size, settings.blocking))
        for start in (first + place * length,)
        if measures.payments
    )


def _named(found: Decisions, groups: Groups, settings: Settings) -> tuple[Named, ...]:
    """The values with most payments, the others together, then those without a value."""
    shares = np.bincount(groups.codes[groups.codes >= 0], minlength=len(groups.values))
    shown = np.argsort(-shares, kind="stable")[:VALUES_MAX].tolist()
    names: list[str | None] = [groups.values[place] for place in shown]
    places = np.full(len(groups.values) + 1, len(shown), np.int64)
    places[shown] = np.arange(len(shown))
    places[-1] = len(shown) + 1  # codes of -1 end up here
    every = measured_by(found, places[groups.codes], len(shown) + 2, settings.blocking)
    named = [Named(name, measures) for name, measures in zip([*names, None, "NULL"], every, strict=True)]
    return tuple(one for one in named if one.measures.payments)


def _kinds(found: Decisions, settings: Settings) -> tuple[Named, ...]:
    if found.kind is None:
        return ()
    frauds = found.take(found.labels == 1)
    return _named(frauds, frauds.kind, settings) if frauds.kind else ()


def _missing(found: Decisions, overall: Measures, settings: Settings) -> list[str]:
    """What cannot be said, and what would help."""
    said = []
    if not overall.labelled:
        said.append("No label is known: nothing can be said of what was found and missed.")
    elif not overall.frauds:
        said.append("No payment is known as a fraud: there are no curves, and nothing is found or missed.")
    elif not overall.legitimate:
        said.append("All payments whose label is known are frauds: there are no curves and no false positives.")
    if np.isnan(found.scores).all():
        said.append("The pipeline gives no score: curves, calibration and thresholds are of scores.")
    elif overall.frauds and overall.legitimate and not _both(found):
        said.append("The payments with a score and a label are of one kind: there are no curves.")
    if not set(settings.blocking) & set(found.actions):
        said.append(
            "No action refuses a payment: there are no declines and no insults. If one does, name it: --decline ACTION."
        )
    if not set(CHALLENGING) & set(found.actions):
        said.append("No action is called challenge: there are no challenges.")
    if np.isnan(found.amounts).all():
        said.append("Amounts are not known, so values are 0: name the field with --amount FIELD.")
    return said


def _both(found: Decisions) -> bool:
    labels = found.judged.labels
    return bool((labels == 1).any() and (labels == 0).any())
