"""What the job must decide, worked out by other means than the program's: whole columns sorted by card and time.

    python -m benchmarks.reference      (holds this module against tests/oracle/card_job, row by row)

Only for events in time order (`Job.late` 0): windows are then runs of the sorted rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.job import CONFIGS, EPOCH_MS, Events, Floats, Ints, Job, events, has_model, records

FEATURES = ("amount", "n_5m", "s_5m", "n_1h", "s_1h", "n_24h", "s_24h", "n_30s", "speed_kmh", "hour")
RULES = ("testing", "velocity_30s", "speed", "spend_24h", "score")
ACTIONS = ("approve", "review", "decline")
_WINDOWS = {"5m": 300_000, "1h": 3_600_000, "24h": 86_400_000, "30s": 30_000}
_RELATIVE = 1e-6
_SCORE_NEAR = 1e-3


class Expected(NamedTuple):
    """By event: card, features (columns of `FEATURES`), score (0-100), rules that hit, action."""

    card: Ints
    features: Floats
    score: Floats
    hits: npt.NDArray[np.bool_]
    action: Ints


class Verdict(msgspec.Struct, kw_only=True):
    """All but `received` are 0 in a good run."""

    received: int
    missing: int
    duplicates: int
    unknown: int
    mismatches: int

    @property
    def good(self) -> bool:
        """Nothing to complain about."""
        return not (self.missing or self.duplicates or self.unknown or self.mismatches)


def expected(job: Job, count: int, start: int = 0, *, model: bool = False) -> Expected:
    """Decide events start .. start + count, as if the first of them were the first of all."""
    if job.late:
        raise ValueError("the reference needs events in time order")
    drawn = Events._make(np.concatenate(columns) for columns in zip(*events(job, count, start), strict=True))
    order = np.lexsort((drawn.number, drawn.card))
    features = np.empty((count, len(FEATURES)))
    testing = np.empty(count, np.bool_)
    some = drawn.take(order)
    features[order], testing[order] = _by_card(some)
    score = _scores(features) if model else np.zeros(count)
    value = dict(zip(FEATURES, features.T, strict=True))
    hits = np.column_stack((testing, value["n_30s"] >= 5, value["speed_kmh"] > 1000, value["s_24h"] > 2000, score > 90))
    action = np.where(hits[:, :3].any(axis=1), 2, hits[:, 3:].any(axis=1).astype(np.int64))
    return Expected(drawn.card, features, score, hits, action)


def _by_card(some: Events) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Features and whether `testing` holds, of events sorted by card and time."""
    size = len(some.card)
    at = np.arange(size)
    first = np.maximum.accumulate(np.where(np.diff(some.card, prepend=-1) != 0, at, 0))
    times = some.event_time
    apart = int(times.max() - times.min()) + 2 * max(_WINDOWS.values())
    place = np.cumsum(np.diff(some.card, prepend=some.card[0]) != 0) * apart + times
    total = np.concatenate(([0], np.cumsum(some.cents)))
    columns: dict[str, Any] = {"amount": some.cents / 100, "hour": times // 3_600_000 % 24}
    for name, width in _WINDOWS.items():
        begin = np.searchsorted(place, place - width, side="right")
        columns[f"n_{name}"] = at - begin + 1
        columns[f"s_{name}"] = (total[at + 1] - total[begin]) / 100
    columns["speed_kmh"] = _speed(some, at > first)
    small = np.concatenate((np.zeros(3, np.bool_), some.cents < 200))
    recent = times[np.maximum(at - 3, 0)] > times - 600_000
    testing = (some.cents > 10_000) & (at - first >= 3) & small[at] & small[at + 1] & small[at + 2] & recent
    return np.column_stack([columns[name] for name in FEATURES]), testing


def _speed(some: Events, has_previous: npt.NDArray[np.bool_]) -> Floats:
    before = np.maximum(np.arange(len(some.card)) - 1, 0)
    hours = np.where(has_previous, some.event_time - some.event_time[before], 1) / 3_600_000
    lat, lon = np.radians(some.lat), np.radians(some.lon)
    half = np.sin((lat - lat[before]) / 2) ** 2
    half += np.cos(lat) * np.cos(lat[before]) * np.sin((lon - lon[before]) / 2) ** 2
    speed = 2 * 6371.0 * np.arcsin(np.minimum(1.0, np.sqrt(half))) / hours
    return np.where(has_previous, speed, 0.0)


def _scores(features: Floats) -> Floats:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(CONFIGS / "model.onnx"), options)
    matrix = features.astype(np.float32)
    parts = [session.run(["probabilities"], {"x": matrix[i : i + 4096]})[0][:, 1] for i in range(0, len(matrix), 4096)]
    return np.concatenate(parts).astype(np.float64) * 100


def check(wanted: Expected, found: Iterable[tuple[bytes | None, bytes]], start: int = 0) -> Verdict:
    """Judge decisions (key, JSON) of events start .. start + the number of `wanted`."""
    size = len(wanted.card)
    decisions = [(key, orjson.loads(value)) for key, value in found]
    number = np.array([int(row["transaction_id"][1:]) for _, row in decisions], np.int64) - start
    known = (number >= 0) & (number < size)
    seen = np.bincount(number[known], minlength=size)
    rows = [decisions[i] for i in np.flatnonzero(known).tolist()]
    wrong = _differences(wanted, number[known], rows) if rows else 0
    return Verdict(
        received=len(decisions),
        missing=int((seen == 0).sum()),
        duplicates=int(np.maximum(seen - 1, 0).sum()),
        unknown=int((~known).sum()),
        mismatches=wrong,
    )


def _differences(wanted: Expected, number: Ints, rows: Sequence[tuple[bytes | None, dict[str, Any]]]) -> int:
    """Decisions that differ in card, key, action, reasons, a feature or the score."""
    features = np.array([[row[name] for name in FEATURES] for _, row in rows], np.float64)
    score = np.array([row["score"] or 0.0 for _, row in rows])
    hits = np.array([[rule in row["reasons"] for rule in RULES] for _, row in rows])
    action = np.array([ACTIONS.index(row["decision"]) for _, row in rows])
    card = np.array([int(row["card_id"][1:]) for _, row in rows])
    key = np.array([int((key or b"c-1")[1:]) for key, _ in rows])
    right = wanted.features[number]
    wrong = (np.abs(features - right) > _RELATIVE * np.maximum(1.0, np.abs(right))).any(axis=1)
    wrong |= np.abs(score - wanted.score[number]) > _SCORE_NEAR
    # A score beside its limit may fall on either side: float32 sums depend on how many rows are scored at once.
    clear = np.abs(wanted.score[number] - 90) > _SCORE_NEAR
    wrong |= clear & (action != wanted.action[number])
    wrong |= clear & (hits != wanted.hits[number]).any(axis=1)
    return int((wrong | (card != wanted.card[number]) | (key != card)).sum())


def self_check(count: int = 20_000) -> dict[str, int]:
    """Compare with the tests' oracle, which decides row by row; the number of decisions by action."""
    from tests.oracle.card_job import expect

    job = Job(cards=500, step_ms=1_000)
    given = [record for pieces in records(job, count) for record in zip(*pieces, strict=True)]
    oracle = expect([(i, value, EPOCH_MS + 86_400_000) for i, (_, value) in enumerate(given)])
    rows = [{**oracle.decisions[i], "score": 0.0} for i in range(count)]
    verdict = check(expected(job, count), [(given[i][0], orjson.dumps(row)) for i, row in enumerate(rows)])
    if not verdict.good:
        raise AssertionError(f"the reference and the tests' oracle differ: {verdict}")
    return dict(Counter(row["decision"] for row in rows))


if __name__ == "__main__":
    print(json.dumps({"agrees on": self_check(), "has model": has_model()}))
