"""`streamproc train`: from files with labels to a version in the registry."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamproc.cli.train_options as given
from state.errors import ConfigError
from streamproc.cli.loops import terminable
from streamproc.cli.options import AsJson, PipelinePath, refuse_unless
from streamproc.cli.stdout import writing_stdout

if TYPE_CHECKING:
    from models.registry import Registry
    from models.training.history import History
    from models.training.train import Trained
    from operators.plan import Plan
    from streamproc.language.model import Model, Pipeline

EXAMPLES = (
    "streamproc train bank.yaml --input april.parquet may.parquet --label is_fraud --model fraud --registry models",
    "streamproc train bank.yaml --input may.csv --label is_fraud --model fraud --registry models --minutes 30",
)


def command(
    pipeline: PipelinePath,
    *,
    inputs: given.LabelledInputs,
    label: given.Label,
    model: given.ModelName,
    registry: given.Registry,
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
    _need_libraries(algorithm)

    from models.registry import open_registry
    from models.training.folds import Window
    from models.training.learners import Options
    from models.training.train import Settings, check_history, train

    window = Window(train_days, test_days, _delay(label_delay), folds)
    loaded, found = _model_of(pipeline, model)
    options = Options(seed, threads, positive_weight, found.increasing, found.decreasing)
    refuse_unless(
        algorithm is not given.Algorithm.LOGISTIC or not found.increasing + found.decreasing,
        "logistic regression knows no constraints",
        f"take increasing and decreasing out of the model {model}, or --algorithm lightgbm or xgboost",
    )
    settings = Settings(algorithm, window, options, trials, minutes, false_positives, cards_a_day)
    with terminable():
        plans, history = _history(loaded, inputs, label, card)
        check_history(history)
        plan = [plan.state_fingerprint for plan in plans]
        trained = train(history, settings, name=model, label=label, plan=plan, tell=_tell)
    _register(open_registry(registry, new=True), model, trained, Path(pipeline).parent, as_json)


def _need_libraries(algorithm: given.Algorithm) -> None:
    from importlib.util import find_spec

    learner = (algorithm,) if algorithm is not given.Algorithm.LOGISTIC else ()
    missing = [name for name in (*learner, "onnx") if find_spec(name) is None]
    refuse_unless(
        not missing, f"training needs {' and '.join(missing)}", "install them: pip install 'streamproc[train]'"
    )


def _delay(text: str) -> int:
    from streamproc.language.units import parse_duration

    try:
        return 0 if text == "0" else parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"--label-delay: {error}", hint="0: known at once") from None


def _model_of(path: str, name: str) -> tuple[Pipeline, Model]:
    from streamproc.language import load_pipeline
    from streamproc.language.problems import nearest

    pipeline = load_pipeline(path)
    if name not in pipeline.models:
        hint = nearest(name, pipeline.models) or f"models: {{{name}: {{registry: DIR, version: 1, features: [...]}}}}"
        raise ConfigError(f"the pipeline {pipeline.pipeline} has no model {name}", hint=hint)
    return pipeline, pipeline.models[name]


def _history(pipeline: Pipeline, inputs: Sequence[str], label: str, card: str | None) -> tuple[Sequence[Plan], History]:
    from operators.plan import streams_of
    from streamproc.cli.columns import survey
    from streamproc.cli.files import resolve_inputs
    from streamproc.cli.labelled import Blank, Labels, joined, read_history
    from streamproc.cli.logs import configure_logs
    from streamproc.cli.progress import Progress
    from streamproc.cli.side_rows import file_pieces
    from streamproc.language import compile_stages

    configure_logs()
    plans = compile_stages(pipeline, models=Blank)
    paths = resolve_inputs(inputs, plans)
    decided, *others = streams_of(plans).items()
    for name, stream in (decided, *others):
        survey(paths[name], stream)
    labels = Labels(label, _card_of(plans[0], card))
    now_ms = time.time_ns() // 1_000_000
    sides = {name: file_pieces(stream, paths[name], now_ms) for name, stream in others}
    rows, parts = 0, []
    with Progress("features", sum(path.stat().st_size for path in paths[decided[0]])) as progress:
        for result, part in read_history(plans, paths[decided[0]], labels, sides):
            parts.append(part)
            rows += len(part.labels)
            progress.update(result.progress, rows)
    return plans, joined(parts)


def _card_of(first: Plan, card: str | None) -> str:
    """The key that it has in the record."""
    from streamproc.language.problems import nearest

    names = [spec.name for spec in first.stream.fields]
    name = card or ("card_id" if "card_id" in names else first.stream.key)
    refuse_unless(
        first.stream.format == "json",
        f"labels are read out of JSON, Parquet and CSV, not out of the format {first.stream.format}",
        "train with a pipeline that declares it as JSON",
    )
    if name not in names:
        raise ConfigError(f"--card: the stream {first.stream.name} has no field {name}", hint=nearest(name, names))
    return first.stream.field(name).source


def _tell(line: str) -> None:
    sys.stderr.write(f"train: {line}\n")


def _register(models: Registry, name: str, trained: Trained, folder: Path, as_json: bool) -> None:
    from models.manifest import CARD, MANIFEST
    from models.registry import is_address

    number = models.add(name, trained.files)
    line, test = trained.manifest.threshold, trained.manifest.folds[-1]
    there = models.where if is_address(models.where) else os.path.relpath(models.where, folder)
    sys.stderr.write(
        f"{models.where}/{name}/{number}: of the test's {test.test.frauds:,} frauds it finds {line.test_recall:.1%} "
        f"at a score above {line.score:g}, with {line.test_false_positives:.3%} of the legitimate ones; see {CARD}\n"
        f"use it: models: {{{name}: {{registry: {there}, version: {number}, features: [...]}}}}\n"
    )
    if as_json:
        with writing_stdout():
            sys.stdout.buffer.write(b'{"version":%d,"manifest":' % number + trained.files[MANIFEST].strip() + b"}\n")
