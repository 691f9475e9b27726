"""The way from a history to a version's files."""

from __future__ import annotations

__all__ = ["ALGORITHMS", "Judged", "Settings", "Trained", "check_history", "parity", "train"]

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.drift import bins_of
from models.manifest import (
    CARD,
    MANIFEST,
    MODEL,
    NATIVE,
    Bins,
    Calibration,
    Data,
    FoldResult,
    Manifest,
    Parity,
    Period,
    Search,
    Threshold,
)
from models.onnx import OnnxModel
from models.training.calibrate import beyond, cards_a_day, threshold_of
from models.training.card import card_of
from models.training.folds import Fold, Span, Window, folds, last_window, learned_from, rows_to_judge, within
from models.training.history import History, joined
from models.training.learners import Fitted, Learner, Options, Value
from models.training.linear import fit_sigmoid, sigmoid
from models.training.metrics import average_precision, measured
from state.errors import ConfigError

Floats = npt.NDArray[np.float64]
Tell = Callable[[str], None]

ALGORITHMS = {
    "lightgbm": "models.training.boosting:BoostedTrees",
    "logistic": "models.training.linear:LogisticRegression",
    "xgboost": "models.training.xgboosting:XGBoostedTrees",
}
PARITY_ROWS, PARITY_MAX = 10_000, 1e-5


class Settings(msgspec.Struct, frozen=True):
    """What the user has chosen. `minutes`: no new trial after that many; 0: all `trials`."""

    algorithm: str
    window: Window
    options: Options
    trials: int = 10
    minutes: float = 0.0
    false_positives: float = 0.001
    cards_a_day: int = 0


class Judged(NamedTuple):
    """Payments with the scores (log-odds) of a model that had not seen them."""

    rows: History
    raw: Floats


class Trained(NamedTuple):
    """A version, not yet in a registry. `test`: the last fold's, by the model that learned before it."""

    files: Mapping[str, bytes]
    manifest: Manifest
    test: Judged


class _Chosen(NamedTuple):
    """The best trial: its parameters, and what they gave on each validation fold."""

    parameters: Mapping[str, Value]
    precision: float
    judged: Sequence[Judged]
    trials: int


def check_history(history: History, window: Window) -> None:
    """Refuse what nothing can be learned from, or judged on, or what tells the answer, before any time is spent on it.

    Raises:
        ConfigError: it is too short; one class only, in all or in days that are needed; or a feature that is the label.
    """
    known = history.labels >= 0
    frauds = history.frauds
    if not frauds or frauds == known.sum():
        kind = "is labelled" if not known.any() else "is a fraud" if not frauds else "is legitimate"
        raise ConfigError(f"no payment of the files {kind}", hint="give files with both kinds, or correct --label")
    fraud = history.labels[known] == 1
    for name, column in zip(history.names, history.matrix[known].T, strict=True):
        inside, outside = np.unique(column[fraud]), np.unique(column[~fraud])
        if len(inside) == len(outside) == 1 and not np.array_equal(inside, outside, equal_nan=True):
            raise ConfigError(
                f"the feature {name} is the label under another name: one value for all frauds, another for all others",
                hint="take it out of the model's features, or give it the label's delay",
            )
    for fold in folds(history, window):
        within(history.known_by(fold.test.start), fold.train)
        rows_to_judge(history, fold, window.delay_ms)
    newest = last_window(history, window)
    within(history.known_by(newest.stop + window.delay_ms), newest)


def train(
    history: History, settings: Settings, *, name: str, label: str, card: str, plan: Sequence[str], tell: Tell
) -> Trained:
    """Search, judge, calibrate, learn from the newest days, export and compare.

    Args:
        history: from the plan that serves.
        settings: the user's choices.
        name: the model's.
        label: the labels' column, for the manifest.
        card: the field that was named as what a card is; "": none.
        plan: the stages' state fingerprints, for the manifest.
        tell: takes a line of progress.

    Raises:
        ConfigError: the history is too short or one-sided, or the export differs from the library.
    """
    check_history(history, settings.window)
    learner = _learner(settings.algorithm)
    *validation, final = folds(history, settings.window)
    chosen = _search(history, validation, learner, settings, tell)
    delay, options = settings.window.delay_ms, settings.options
    rows = history.take(rows_to_judge(history, final, delay))
    judged = Judged(rows, learner.fit(_train_rows(history, final), chosen.parameters, options).raw(rows.matrix))
    pooled = _pooled(chosen.judged)
    slope, intercept = fit_sigmoid(pooled.raw, pooled.rows.labels)
    tell("learn from the newest days")
    newest = last_window(history, settings.window)
    learned = learned_from(history, newest, newest.stop + delay)
    fitted = learner.fit(learned, chosen.parameters, options)
    content = fitted.onnx(slope, intercept)
    results = [
        _result(history, fold, each, use)
        for fold, each, use in zip(
            [*validation, final], [*chosen.judged, judged], ["validation"] * len(validation) + ["test"], strict=True
        )
    ]
    native = fitted.text().encode()
    manifest = Manifest(
        name=name,
        algorithm=settings.algorithm,
        digests={MODEL: hashlib.sha256(content).hexdigest(), NATIVE: hashlib.sha256(native).hexdigest()},
        features=history.names,
        plan=tuple(plan),
        data=_data(history, label, card, delay),
        learned=_period(learned, newest),
        search=_searched(chosen, settings),
        folds=tuple(results),
        calibration=_calibration(judged, slope, intercept),
        threshold=_threshold(pooled, judged, (slope, intercept), settings),
        parity=parity(content, fitted, history, (slope, intercept), options.seed),
        libraries=_libraries(learner),
        baseline=_baseline(history, learned, fitted, (slope, intercept)),
    )
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    files = {MODEL: content, NATIVE: native, MANIFEST: text, CARD: card_of(manifest).encode()}
    return Trained(files, manifest, judged)


def _learner(algorithm: str) -> Learner:
    module, _, found = ALGORITHMS[algorithm].partition(":")
    learner: Learner = getattr(import_module(module), found)()
    return learner


def _search(history: History, validation: Sequence[Fold], learner: Learner, settings: Settings, tell: Tell) -> _Chosen:
    """Try the usual parameters, then drawn ones; the best by the mean of the folds' average precision."""
    parts = [
        (
            _train_rows(history, fold),
            history.take(rows_to_judge(history, fold, settings.window.delay_ms)),
        )
        for fold in validation
    ]
    random = np.random.default_rng(settings.options.seed)
    best, done, begun = None, 0, time.monotonic()
    while done < settings.trials and not (
        done and settings.minutes and time.monotonic() - begun > 60 * settings.minutes
    ):
        parameters = learner.drawn(random) if done else learner.usual()
        judged = [
            Judged(test, learner.fit(train, parameters, settings.options).raw(test.matrix)) for train, test in parts
        ]
        precision = float(np.mean([average_precision(each.rows.labels, each.raw) for each in judged]))
        done += 1
        if best is None or precision > best.precision:
            best = _Chosen(parameters, precision, judged, done)
        tell(f"trial {done} of {settings.trials}: average precision {precision:.4f}, best {best.precision:.4f}")
    assert best is not None
    return best._replace(trials=done)


def _train_rows(history: History, fold: Fold) -> History:
    return learned_from(history, fold.train, fold.test.start)


def _pooled(parts: Sequence[Judged]) -> Judged:
    return Judged(joined([part.rows for part in parts]), np.concatenate([part.raw for part in parts]))


def _period(rows: History, span: Span) -> Period:
    return Period(_text(span.start), _text(span.stop), len(rows.labels), rows.frauds)


def _text(at: int) -> str:
    return f"{np.datetime64(at, 'ms') if at % 1000 else np.datetime64(at // 1000, 's')}Z"


def _data(history: History, label: str, card: str, delay_ms: int) -> Data:
    whole = Span(int(history.times.min()), int(history.times.max()) + 1)
    unlabelled = int((history.labels < 0).sum())
    return Data(history.digest, label, delay_ms, unlabelled, _period(history, whole), card, history.open_ended)


def _result(history: History, fold: Fold, judged: Judged, use: str) -> FoldResult:
    train = _train_rows(history, fold)
    return FoldResult(
        use, _period(train, fold.train), _period(judged.rows, fold.test), _rounded(measured(judged.rows, judged.raw))
    )


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.items()}


def _searched(chosen: _Chosen, settings: Settings) -> Search:
    options = settings.options
    return Search(
        chosen.trials, options.seed, options.threads, options.positive_weight, options.increasing, options.decreasing,
        round(chosen.precision, 6), dict(chosen.parameters),
    )  # fmt: skip


def _calibration(judged: Judged, slope: float, intercept: float) -> Calibration:
    wanted = judged.rows.labels == 1
    before, after = (
        float(np.mean((sigmoid(raw) - wanted) ** 2)) for raw in (judged.raw, slope * judged.raw + intercept)
    )
    return Calibration(slope, intercept, round(before, 9), round(after, 9))


def _baseline(history: History, learned: History, fitted: Fitted, by: tuple[float, float]) -> dict[str, Bins]:
    """Scores are those of newer payments, where there are some: what it has learned from it knows too well."""
    later = history.matrix[history.times > learned.times.max()]
    raw = fitted.raw(later if len(later) else learned.matrix)
    columns = zip(learned.names, learned.matrix.T, strict=True)
    return {**{name: bins_of(column) for name, column in columns}, "score": bins_of(100 * sigmoid(by[0] * raw + by[1]))}


def _threshold(pooled: Judged, test: Judged, by: tuple[float, float], settings: Settings) -> Threshold:
    slope, intercept = by
    line = threshold_of(
        pooled.rows, sigmoid(slope * pooled.raw + intercept), settings.false_positives, settings.cards_a_day
    )
    scores, score = sigmoid(slope * test.raw + intercept), beyond(line.at)
    above, fraud = 100 * scores > score, test.rows.labels == 1
    return Threshold(
        score=score,
        false_positives=settings.false_positives,
        by_false_positives=beyond(line.by_false_positives),
        cards_a_day=settings.cards_a_day,
        by_cards=beyond(line.by_cards),
        test_false_positives=round(float(above[~fraud].mean()), 6),
        test_recall=round(float(above[fraud].mean()), 6),
        test_cards_a_day=round(cards_a_day(test.rows, scores, score / 100), 3),
    )


def parity(content: bytes, fitted: Fitted, history: History, by: tuple[float, float], seed: int) -> Parity:
    """The ONNX file against the library, calibrated `by` (slope, intercept): 10,000 rows drawn from the history, every
    other one with values missing that may never have been missing in training.

    Raises:
        ConfigError: a probability differs by more than 1e-5.
    """
    random = np.random.default_rng(seed)
    matrix = history.matrix[random.integers(0, len(history.matrix), PARITY_ROWS)]
    holes = random.random(matrix.shape) < 0.05
    holes[::2] = False
    matrix[holes] = np.nan
    slope, intercept = by
    wanted = sigmoid(slope * fitted.raw(matrix) + intercept)
    given = OnnxModel(Path(MODEL), history.names, content=content).score(matrix) / 100
    difference = np.abs(given - wanted)
    largest = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    if not largest <= PARITY_MAX:
        raise ConfigError(
            f"the exported model is not the trained one: its probabilities differ by up to {largest:.2g}, "
            f"{PARITY_MAX:g} is allowed; nothing was registered",
            hint="report it, with the versions in `pip list`; meanwhile: --algorithm logistic",
        )
    return Parity(PARITY_ROWS, float(f"{largest:.2g}"))


def _libraries(learner: Learner) -> dict[str, str]:
    packages = (*learner.libraries, "numpy", "onnx", "onnxruntime")
    return {"python": sys.version.split()[0], **{package: version(package) for package in sorted(packages)}}
