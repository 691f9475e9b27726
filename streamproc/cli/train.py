"""`streamproc train`: from files with labels to a version in the registry."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from pathlib import Path

import streamproc.cli.train_options as given
from streamproc.cli.loops import terminable
from streamproc.cli.options import AsJson, PipelinePath, refuse_unless
from streamproc.cli.training import Where, labelled_history, model_of, need_libraries, register, tell

EXAMPLES = (
    "streamproc train bank.yaml --input april.parquet may.parquet --label is_fraud --model fraud --registry models",
    "streamproc train bank.yaml --input may.csv --label is_fraud --model fraud --registry models --minutes 30",
    "streamproc train bank.yaml --input may.csv --labels chargebacks.csv --model fraud --registry models",
)


def command(
    pipeline: PipelinePath,
    *,
    inputs: given.LabelledInputs,
    model: given.ModelName,
    registry: given.Registry,
    label: given.Label = None,
    labels: given.LabelsFile = None,
    others_legitimate: given.OthersLegitimate = False,
    algorithm: given.Algorithm = given.Algorithm.LIGHTGBM,
    card: given.CardField = None,
    label_delay: given.LabelDelay = "7d",
    train_days: given.TrainDays = 28,
    test_days: given.TestDays = 7,
    folds: given.Folds = 3,
    trials: given.Trials = 10,
    minutes: given.Minutes = 0.0,
    positive_weight: given.Weight = 1.0,
    false_positives: given.Budget = 0.001,
    cards_a_day: given.CardsADay = 0,
    seed: given.Seed = 1,
    threads: given.Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Train a model on labelled files, judge it on days it has not seen, and register it as a new version.

    Features come from the very plan that `run` executes, each as of its payment. Needs the extra `streamproc[train]`.
    """
    need_libraries(algorithm)

    from models.registry import open_registry
    from models.training.folds import Window
    from models.training.learners import Options
    from models.training.train import Settings, check_history, train

    window = Window(train_days, test_days, given.delay_ms(label_delay), folds)
    loaded, found = model_of(pipeline, model)
    options = Options(seed, threads, positive_weight, found.increasing, found.decreasing)
    refuse_unless(
        algorithm is not given.Algorithm.LOGISTIC or not found.increasing + found.decreasing,
        "logistic regression knows no constraints",
        f"take increasing and decreasing out of the model {model}, or --algorithm lightgbm or xgboost",
    )
    settings = Settings(algorithm, window, options, trials, minutes, false_positives, cards_a_day)
    with terminable():
        plans, history = labelled_history(loaded, inputs, card, Where(label, labels, others_legitimate))
        check_history(history, window)
        models = open_registry(registry, new=True)
        models.try_out()
        plan = [plan.state_fingerprint for plan in plans]
        trained = train(history, settings, name=model, label=label or "", card=card or "", plan=plan, tell=tell)
    register(models, model, trained, Path(pipeline).parent, as_json)
