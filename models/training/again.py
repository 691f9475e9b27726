"""Training once more, as a version was trained."""

from __future__ import annotations

__all__ = ["settings_of"]

import numpy as np

from models.manifest import Manifest, Period
from models.training.folds import Window
from models.training.learners import Options
from models.training.train import Settings


def settings_of(manifest: Manifest) -> Settings:
    """The settings that it came from; the search is as long, whatever the clock had allowed it."""
    search, line, last = manifest.search, manifest.threshold, manifest.folds[-1]
    options = Options(search.seed, search.threads, search.positive_weight, search.increasing, search.decreasing)
    window = Window(_days(last.train), _days(last.test), manifest.data.delay_ms, len(manifest.folds) - 1)
    return Settings(manifest.algorithm, window, options, search.trials, 0.0, line.false_positives, line.cards_a_day)


def _days(period: Period) -> int:
    start, stop = (np.datetime64(text.removesuffix("Z")) for text in (period.start, period.stop))
    return int((stop - start) / np.timedelta64(1, "D"))
