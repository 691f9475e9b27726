"""What a `Watch` says, in Prometheus' terms. Labels are versions, features of models and a few words: bounded."""

from __future__ import annotations

__all__ = ["Standing", "WatchMetrics"]

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models.drift import Drift
from models.watching.figures import Comparison, Figures, VersionFigures
from models.watching.intervals import Estimate

_P = "streamproc_model_"
_Key = tuple[str, ...]
_BOUNDS = ("estimate", "low", "high")
_JUDGED = {"precision": "Frauds by what was told", "recall": "Frauds that were told by all frauds",
           "false_positive_rate": "Legitimate payments that were told by all of them"}  # fmt: skip


class Standing(NamedTuple):
    """`stream_ms`: the event time that was reached. `older`: payments of days that are not kept."""

    figures: Figures
    stream_ms: int
    older: int


class WatchMetrics(Collector):
    """`now` is what is told at the next scrape; None: nothing yet."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.now: Standing | None = None
        registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """None: names are told as they come."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry."""
        now = self.now
        if now is None:
            return
        of = now.figures
        yield _gauge("watched_until_seconds", "Event time of the newest payment", {(): now.stream_ms / 1000})
        yield _gauge("payments", "Of the days that are kept", {(): of.rows})
        yield _gauge("unscored_payments", "Decided without a score", {(): of.unscored})
        yield _gauge("older_payments", "Of days that are not kept", {(): now.older})
        yield _gauge("labelled_payments", "Whose label is known", {(): of.labelled})
        yield _gauge("overdue_labels", "Payments whose label should be known by now", {(): of.overdue})
        yield from _of_versions(of.versions)
        yield from _of_comparisons(of.comparisons)


def _of_versions(versions: Iterable[VersionFigures]) -> Iterator[GaugeMetricFamily]:
    each: dict[_Key, VersionFigures] = {(str(one.version),): one for one in versions}
    label: _Key = ("version",)
    yield _gauge("decided_payments", "By its score", {key: one.decided for key, one in each.items()}, label)
    yield _gauge("scored_payments", "As a shadow, too", {key: one.scored for key, one in each.items()}, label)
    unknown: dict[_Key, float | None] = {
        key: float(one.threshold is None or not one.drift) for key, one in each.items()
    }
    yield _gauge("unknown", "1: the registry does not say what it was trained on", unknown, label)
    drifted: dict[_Key, float | None] = {key: len(one.shifted) for key, one in each.items()}
    yield _gauge("drifted_features", "The newest day's; the score is one of them", drifted, label)
    precise = {key: one.average_precision for key, one in each.items()}
    yield _gauge("average_precision", "Of its scores, labels as they are known", precise, label)
    features: dict[_Key, Drift] = {(*key, drift.name): drift for key, one in each.items() for drift in one.drift}
    label = ("version", "feature")
    for name, said, values in (
        ("stability_index", "Of the newest day against training", {k: one.index for k, one in features.items()}),
        ("stability_noise", "What chance would make of the index", {k: one.noise for k, one in features.items()}),
        ("missing_rate", "Of the newest day", {k: one.missing for k, one in features.items()}),
        ("missing_rate_in_training", "For comparison", {k: one.missing_then for k, one in features.items()}),
    ):
        yield _gauge(name, said, values, label)
    for name, said in _JUDGED.items():
        bounds: dict[_Key, float] = {}
        for key, one in each.items():
            for by, judged in (("alerts", one.alerts), ("score", one.flagged)):
                bounds |= _bounds((*key, by), getattr(judged, name) if judged is not None else None)
        yield _gauge(name, said, bounds, ("version", "by", "bound"))


def _of_comparisons(comparisons: Iterable[Comparison]) -> Iterator[GaugeMetricFamily]:
    values: dict[_Key, float] = {}
    for one in comparisons:
        for figure in (*_JUDGED, "average_precision"):
            values |= _bounds((str(one.version), str(one.against), figure), getattr(one, figure))
    yield _gauge(
        "difference", "Of the version, less that of the one against", values, ("version", "against", "figure", "bound")
    )


def _bounds(key: _Key, of: Estimate | None) -> dict[_Key, float]:
    return {} if of is None else dict(zip([(*key, b) for b in _BOUNDS], (of.value, of.low, of.high), strict=True))


def _gauge(name: str, said: str, values: Mapping[_Key, float | None], labels: _Key = ()) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_P + name, said, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric(key, value)
    return family
