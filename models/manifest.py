"""What a version of a model is made of: the names of its files, and its manifest."""

from __future__ import annotations

__all__ = [
    "CARD",
    "FORM",
    "MANIFEST",
    "MODEL",
    "NATIVE",
    "Bins",
    "Calibration",
    "Data",
    "FoldResult",
    "Manifest",
    "Parity",
    "Period",
    "Search",
    "Threshold",
]

import msgspec

FORM = 1
"""Of manifests that are written, and read."""
MODEL, NATIVE, MANIFEST, CARD = "model.onnx", "native.txt", "manifest.json", "card.md"


class Period(msgspec.Struct, frozen=True):
    """Payments from `start` until before `stop` (RFC 3339, UTC)."""

    start: str
    stop: str
    rows: int
    frauds: int


class Data(msgspec.Struct, frozen=True):
    """All that was read. `digest`: SHA-256 of features, labels, times and cards. `label`: its column, "" of a list of
    frauds; `delay_ms`: until it is known. `unlabelled`: rows of which it never is. `card`: the field that was named as
    what a card is, "": none was. `others_legitimate`: who had no label was no fraud.
    """

    digest: str
    label: str
    delay_ms: int
    unlabelled: int
    period: Period
    card: str = ""
    others_legitimate: bool = False


class Search(msgspec.Struct, frozen=True):
    """How the parameters were found: `trials` tried, the best by mean average precision of the validation folds."""

    trials: int
    seed: int
    threads: int
    positive_weight: float
    increasing: tuple[str, ...]
    decreasing: tuple[str, ...]
    average_precision: float
    parameters: dict[str, int | float]


class FoldResult(msgspec.Struct, frozen=True):
    """`use`: validation or test; the test's days had no say in anything."""

    use: str
    train: Period
    test: Period
    metrics: dict[str, float]


class Calibration(msgspec.Struct, frozen=True):
    """Probability = sigmoid(slope * log-odds + intercept), in the ONNX file. `brier_before`, `brier`: of the test."""

    slope: float
    intercept: float
    brier_before: float
    brier: float


class Threshold(msgspec.Struct, frozen=True):
    """Flag payments whose score (0-100) is above `score`: the higher one of what two budgets allow.

    `by_false_positives`: at most `false_positives` of the legitimate payments. `by_cards`: on the mean at most
    `cards_a_day` cards; 0 cards: no such budget. Both on the validation folds; `test_...`: what came of it.
    """

    score: float
    false_positives: float
    by_false_positives: float
    cards_a_day: int
    by_cards: float
    test_false_positives: float
    test_recall: float
    test_cards_a_day: float


class Parity(msgspec.Struct, frozen=True):
    """The ONNX file against the library: the largest difference of a probability."""

    rows: int
    largest: float


class Bins(msgspec.Struct, frozen=True):
    """A column's `rows` as shares: up to each edge, above the last one, and (last) missing."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    rows: int


class Manifest(msgspec.Struct, frozen=True):
    """What a version is. `digests`: SHA-256 of files, hex. `plan`: the state fingerprints of the stages. `baseline`: of
    what was learned from, by feature; `score`: of the payments since then, of which it had not learned.
    """

    name: str
    algorithm: str
    digests: dict[str, str]
    features: tuple[str, ...]
    plan: tuple[str, ...]
    data: Data
    learned: Period
    search: Search
    folds: tuple[FoldResult, ...]
    calibration: Calibration
    threshold: Threshold
    parity: Parity
    libraries: dict[str, str]
    baseline: dict[str, Bins] = {}
    form: int = FORM

    @property
    def digest(self) -> str:
        """Of the ONNX file."""
        return self.digests[MODEL]
