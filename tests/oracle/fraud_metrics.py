"""The metrics of the Fraud Detection Handbook, word by word and slowly; rows are (time in ms, card, fraud, score)."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[int, int, bool, float]
DAY = 86_400_000


def average_precision(rows: Sequence[Row]) -> float:
    """Sum over thresholds of (recall - recall before) x precision."""
    frauds = sum(row[2] for row in rows)
    total, before = 0.0, 0.0
    for threshold in sorted({row[3] for row in rows}, reverse=True):
        flagged = [row for row in rows if row[3] >= threshold]
        hits = sum(row[2] for row in flagged)
        total += (hits / frauds - before) * hits / len(flagged)
        before = hits / frauds
    return total


def auc(rows: Sequence[Row]) -> float:
    """Of all pairs of a fraud and a legitimate payment: how many are in the right order."""
    frauds, others = [row[3] for row in rows if row[2]], [row[3] for row in rows if not row[2]]
    right = sum(1.0 if f > o else 0.5 if f == o else 0.0 for f in frauds for o in others)
    return right / (len(frauds) * len(others))


def recall_at(rows: Sequence[Row], budget: float) -> float:
    """The highest recall of a threshold that flags no more than its budget."""
    frauds, others = [row for row in rows if row[2]], [row for row in rows if not row[2]]
    best = 0.0
    for threshold in {row[3] for row in rows}:
        if sum(row[3] >= threshold for row in others) <= budget * len(others):
            best = max(best, sum(row[3] >= threshold for row in frauds) / len(frauds))
    return best


def card_precision(rows: Sequence[Row], k: int) -> float:
    """Of the k cards of a day with the highest score, those with a fraud that day; found cards are blocked."""
    shares, blocked = [], set[int]()
    for day in sorted({row[0] // DAY for row in rows}):
        of_day = [row for row in rows if row[0] // DAY == day and row[1] not in blocked]
        cards = sorted({row[1] for row in of_day}, key=lambda card: (-max(r[3] for r in of_day if r[1] == card), card))
        hits = {card for card in cards[:k] if any(row[2] for row in of_day if row[1] == card)}
        shares.append(len(hits) / k)
        blocked |= hits
    return sum(shares) / len(shares)


def tested(rows: Sequence[Row], start: int, train: int, delay: int, test: int) -> list[int]:
    """The rows a fold is judged on; `start`: of its training, and days of each of its parts."""
    first = start + (train + delay) * DAY
    found = []
    for number, row in enumerate(rows):
        day = row[0] // DAY * DAY
        known = any(r[2] and r[1] == row[1] and start <= r[0] < day - delay * DAY for r in rows)
        if first <= row[0] < first + test * DAY and not known:
            found.append(number)
    return found
