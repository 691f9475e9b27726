"""What a training does with its budget, its seed and its weights, by each algorithm."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

from models.training.folds import Window
from models.training.history import DAY_MS, History
from models.training.learners import Learner, Options
from models.training.train import Settings, Trained, train
from tests.models.test_export import LEARNERS, rows

ALGORITHMS = ("lightgbm", "xgboost", "logistic")


@pytest.fixture(scope="module")
def history() -> History:
    found = rows(4, 600)
    return msgspec.structs.replace(found, times=found.times * (DAY_MS // 60))  # ten days


def trained(history: History, algorithm: str, trials: int, minutes: float) -> tuple[Trained, list[str]]:
    said: list[str] = []
    settings = Settings(algorithm, Window(3, 2, DAY_MS, 1), Options(seed=3), trials, minutes)
    return train(history, settings, name="fraud", label="fraud", card="", plan=[], tell=said.append), said


def test_the_search_ends_with_its_minutes_and_tells_of_each_trial(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute a trial, of one and a quarter: the third begins in time and is the last."""
    times = iter(range(0, 3000, 30))
    monkeypatch.setattr("models.training.train.time.monotonic", lambda: next(times))
    found, said = trained(history, "logistic", 9, 1.25)
    assert found.manifest.search.trials == 3
    assert [line.partition(":")[0] for line in said] == [
        "trial 1 of 9", "trial 2 of 9", "trial 3 of 9", "learn from the newest days",
    ]  # fmt: skip
    best = max(float(line.split()[6].rstrip(",")) for line in said[:3])
    assert found.manifest.search.average_precision == pytest.approx(best, abs=1e-4)
    assert trained(history, "logistic", 2, 0.0)[0].manifest.search.trials == 2  # whatever the clock says


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_bytes(algorithm: str, history: History) -> None:
    one, two = (trained(history, algorithm, 2, 0.0)[0] for _ in range(2))
    assert one.files == two.files
    assert (one.manifest.parity.rows, one.manifest.parity.largest < 1e-5) == (10_000, True)


@pytest.mark.parametrize("learner", LEARNERS, ids=ALGORITHMS)
def test_frauds_that_weigh_more_raise_the_odds(learner: Learner) -> None:
    some = rows(5, 600)
    parameters = {name: 20 if name == "trees" else value for name, value in learner.usual().items()}
    light, heavy = (learner.fit(some, parameters, Options(positive_weight=weight)) for weight in (1.0, 8.0))
    raised = np.mean(heavy.raw(some.matrix) - light.raw(some.matrix))
    assert 1.0 < raised < 3.0  # ln 8 is 2.08
