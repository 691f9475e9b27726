"""What `models watch` tells Prometheus, against the figures by hand."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from models.drift import Drift
from models.watching.figures import Comparison, Figures, Judged, VersionFigures
from models.watching.intervals import Estimate
from streamproc.services.watching.metrics import Standing, WatchMetrics

NOTHING = Judged(0, 0, 0, 0, None, None, None)
ALERTS = Judged(8, 9, 4, 1, Estimate(0.8, 0.6, 0.9), Estimate(0.5, 0.3, 0.7), Estimate(0.1, 0.05, 0.2))
FLAGGED = Judged(8, 9, 2, 0, Estimate(1.0, 0.7, 1.0), Estimate(0.25, 0.1, 0.5), None)
DRIFT = (Drift("amount", 0.9, 0.1, 0.2, 0.3), Drift("score", 0.05, 0.1, 0.0, 0.0))
FIGURES = Figures(
    rows=100, unscored=7, labelled=60, overdue=5,
    versions=(
        VersionFigures(1, 80, 90, 50.0, DRIFT, ALERTS, FLAGGED, 0.75),
        VersionFigures(2, 13, 14, None, DRIFT[1:], NOTHING, None, None),
        VersionFigures(3, 0, 4, 60.0, (), NOTHING, NOTHING, None),
    ),
    comparisons=(Comparison(2, 1, 6, (3, 4), (5, 6), Estimate(0.1, -0.1, 0.3), None, None, Estimate(-0.2, -0.4, 0.0)),),
    notes=(),
)  # fmt: skip


def told(standing: Standing | None) -> dict[str, float]:
    registry = CollectorRegistry()
    WatchMetrics(registry).now = standing
    return {
        "/".join([sample.name.removeprefix("streamproc_model_"), *sample.labels.values()]): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_nothing_is_told_before_something_is_known() -> None:
    assert told(None) == {}


def test_each_figure_is_told_under_its_name() -> None:
    assert told(Standing(FIGURES, 1_500, 3)) == {
        "watched_until_seconds": 1.5, "payments": 100, "unscored_payments": 7, "older_payments": 3,
        "labelled_payments": 60, "overdue_labels": 5,
        "decided_payments/1": 80, "decided_payments/2": 13, "scored_payments/1": 90, "scored_payments/2": 14,
        "decided_payments/3": 0, "scored_payments/3": 4, "unknown/3": 1, "drifted_features/3": 0,
        "stability_index/2/score": 0.05, "stability_noise/2/score": 0.1, "missing_rate/2/score": 0.0,
        "missing_rate_in_training/2/score": 0.0,
        "unknown/1": 0, "unknown/2": 1, "drifted_features/1": 1, "drifted_features/2": 0, "average_precision/1": 0.75,
        "stability_index/1/amount": 0.9, "stability_index/1/score": 0.05,
        "stability_noise/1/amount": 0.1, "stability_noise/1/score": 0.1,
        "missing_rate/1/amount": 0.3, "missing_rate/1/score": 0.0,
        "missing_rate_in_training/1/amount": 0.2, "missing_rate_in_training/1/score": 0.0,
        "precision/1/alerts/estimate": 0.8, "precision/1/alerts/low": 0.6, "precision/1/alerts/high": 0.9,
        "precision/1/score/estimate": 1.0, "precision/1/score/low": 0.7, "precision/1/score/high": 1.0,
        "recall/1/alerts/estimate": 0.5, "recall/1/alerts/low": 0.3, "recall/1/alerts/high": 0.7,
        "recall/1/score/estimate": 0.25, "recall/1/score/low": 0.1, "recall/1/score/high": 0.5,
        "false_positive_rate/1/alerts/estimate": 0.1, "false_positive_rate/1/alerts/low": 0.05,
        "false_positive_rate/1/alerts/high": 0.2,
        "difference/2/1/precision/estimate": 0.1, "difference/2/1/precision/low": -0.1,
        "difference/2/1/precision/high": 0.3,
        "difference/2/1/average_precision/estimate": -0.2, "difference/2/1/average_precision/low": -0.4,
        "difference/2/1/average_precision/high": 0.0,
    }  # fmt: skip
