"""What is said of decided payments, word by word and slowly; imports nothing of the code under test.

A payment: (day, card, amount, label, score, action, rules that hit, segment); label: True, False, None: not known;
score: None: none. Actions: decline refuses, approve is the mildest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Payment(NamedTuple):
    day: int
    card: int
    amount: float | None
    label: bool | None
    score: float | None
    action: str
    rules: tuple[str, ...]
    segment: str | None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def value(some: Sequence[Payment]) -> float:
    return sum(one.amount or 0.0 for one in some)


def measures(some: Sequence[Payment]) -> dict[str, float | None]:
    frauds = [one for one in some if one.label is True]
    legitimate = [one for one in some if one.label is False]
    alerts = [one for one in some if one.action != "approve"]
    found = [one for one in frauds if one in alerts]
    declined = [one for one in frauds if one.action == "decline"]
    false = [one for one in legitimate if one in alerts]
    return {
        "alert_rate": _share(len(alerts), len(some)),
        "decline_rate": _share(sum(one.action == "decline" for one in some), len(some)),
        "challenge_rate": _share(sum(one.action == "challenge" for one in some), len(some)),
        "approval_rate": _share(sum(one.action == "approve" for one in some), len(some)),
        "precision": _share(len(found), len(found) + len(false)),
        "detection_rate": _share(len(found), len(frauds)),
        "value_detection_rate": _share(value(found), value(frauds)),
        "real_time_value_detection_rate": _share(value(declined), value(frauds)),
        "false_positive_ratio": _share(len(false), len(found)),
        "false_positive_rate": _share(len(false), len(legitimate)),
        "insult_rate": _share(sum(one.action == "decline" for one in legitimate), len(legitimate)),
        "fraud_bps": _share(10_000 * value(frauds), value([*frauds, *legitimate])),
    }  # fmt: skip


def saved(some: Sequence[Payment], alert_cost: float, insult_cost: float) -> float:
    total = 0.0
    for one in some:
        if one.action != "approve":
            total -= alert_cost
            if one.label is True:
                total += one.amount or 0.0
        if one.action == "decline" and one.label is False:
            total -= insult_cost
    return total


def accounts(some: Sequence[Payment]) -> tuple[int, int]:
    cards = {one.card for one in some if one.label}
    return len(cards), sum(
        any(one.card == card and one.label and one.action != "approve" for one in some) for card in cards
    )


def judged(some: Sequence[Payment]) -> list[Payment]:
    return [one for one in some if one.label is not None and one.score is not None]


def flagged_from(some: Sequence[Payment], score: float) -> tuple[int, int, float, float]:
    """Flagged, frauds, their value, cards a day, if all payments of this score and above were."""
    rows = judged(some)
    flagged = [one for one in rows if one.score is not None and one.score >= score]
    frauds = [one for one in flagged if one.label]
    cards = len({(one.day, one.card) for one in flagged})
    return len(flagged), len(frauds), value(frauds), cards / len({one.day for one in rows})


def payment_precision(some: Sequence[Payment], k: int) -> dict[int, float]:
    found = {}
    for day in {one.day for one in judged(some)}:
        rows = [one for one in judged(some) if one.day == day]
        rows.sort(key=lambda one: -(one.score or 0.0))  # stable
        found[day] = sum(bool(one.label) for one in rows[:k]) / k
    return found


def calibration(some: Sequence[Payment]) -> list[tuple[float, int, int, float]]:
    """Lowest score, payments, frauds, mean score / 100 of each of ten bins that is not empty."""
    found = []
    for low in range(0, 100, 10):
        inside = [
            one for one in judged(some)
            if one.score is not None and low <= one.score and (one.score < low + 10 or low == 90)
        ]  # fmt: skip
        if inside:
            mean = sum((one.score or 0.0) / 100 for one in inside) / len(inside)
            found.append((float(low), len(inside), sum(bool(one.label) for one in inside), mean))
    return found


def alone(some: Sequence[Payment], rule: str, live: Sequence[str]) -> int:
    others = set(live) - {rule}
    return sum(bool(one.label) and rule in one.rules and not others & set(one.rules) for one in some)


def moves(before: Sequence[Payment], after: Sequence[Payment]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for old, new in zip(before, after, strict=True):
        if old.action != new.action:
            found[old.action, new.action] = found.get((old.action, new.action), 0) + 1
    return found
