"""`streamproc retrain`: a new version as the one that serves was trained; registered only if it is not worse."""

from __future__ import annotations

__all__ = ["EXAMPLES", "RetrainCommand", "command"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import streamproc.cli.train_options as given
from state.errors import ConfigError
from streamproc.cli.backtest import BacktestCommand
from streamproc.cli.environment import EnvironmentCommand, EnvironmentName
from streamproc.cli.loops import run_async, run_until_terminated, terminable
from streamproc.cli.options import AsJson, PipelinePath
from streamproc.cli.training import Where, labelled_history, model_of, need_libraries, picked, register, served_by, tell

if TYPE_CHECKING:
    from models.manifest import Manifest
    from models.training.compare import Comparison
    from models.training.folds import Window
    from models.training.history import History
    from operators.live_tables import Row
    from operators.serving import Roles

WORSE = 1
"""Exit code, so that a weekly job tells."""
EXAMPLES = (
    "streamproc retrain bank.yaml --input april.parquet may.parquet --model fraud",
    "streamproc retrain bank.yaml --input may.parquet --model fraud --labels chargebacks.csv --others-legitimate",
    "streamproc retrain bank.yaml --input may.parquet --model fraud --log kafka://localhost:9092 --share 0.05",
)


class RetrainCommand(BacktestCommand, EnvironmentCommand):
    """Takes several files behind `--input`, and `--env`."""


def command(
    pipeline: PipelinePath,
    *,
    inputs: given.LabelledInputs,
    model: given.ModelName,
    labels: given.LabelsFile = None,
    others_legitimate: given.OthersLegitimate = False,
    card: given.CardField = None,
    margin: given.Margin = 0.02,
    log: given.RolesLog = None,
    environment: EnvironmentName = None,
    share: given.Share = 0.1,
    as_json: AsJson = False,
) -> None:
    """Train as the version that serves was trained, on newer files; register the new one only if it is not worse.

    Both are judged on the same days, the last ones of the files. The version that serves is the pipeline's, or with
    --log the champion that is at work there; then the new one becomes its challenger. Needs `streamproc[train]`.
    """
    loaded, found = model_of(pipeline, model)
    registry, version = served_by(loaded, model, found)
    if log is not None:
        version = _at_work(pipeline, model, log)
    champion = registry.manifest(model, version)
    need_libraries(champion.algorithm)

    from models.training.again import settings_of
    from models.training.compare import compared
    from models.training.train import check_history, train

    scorer = registry.model(model, version)
    places = picked(model, champion.features, found.features)
    settings, data = settings_of(champion), champion.data
    card = card or data.card or None
    where = Where(data.label or None, labels, others_legitimate or (labels is not None and data.others_legitimate))
    with terminable():
        plans, history = labelled_history(loaded, inputs, card, where)
        check_history(history, settings.window)
        registry.try_out()
        _unseen(champion, history, settings.window)
        plan = [plan.state_fingerprint for plan in plans]
        trained = train(history, settings, name=model, label=data.label, card=card or "", plan=plan, tell=tell)
    test = trained.test
    comparison = compared(test.rows, scorer.score(test.rows.matrix[:, places]), test.raw, settings.options.seed)
    tell(_said(comparison, version))
    if not comparison.not_worse(margin):
        sys.stderr.write(f"not registered: it may be worse by more than {margin:g}; version {version} stays\n")
        raise typer.Exit(WORSE)
    number = register(registry, model, trained, Path(pipeline).parent if log is None else None, as_json)
    if log is not None:
        _challenge(pipeline, model, log, (version, number), share)


def _at_work(pipeline: str, model: str, log: str) -> int:
    """The champion by the topic of roles."""
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.model_roles import roles_at_work

    refuse_missing_log(log)
    return run_async(roles_at_work(pipeline, model, log)).champion


def _challenge(pipeline: str, model: str, log: str, versions: tuple[int, int], share: float) -> None:
    """Let the second version challenge the first, if that is the champion still."""
    from operators.serving import changed
    from streamproc.cli.model_roles import declared, write_roles
    from streamproc.cli.table_publisher import Who

    champion, number = versions

    def challenged(roles: Roles, _: Row | None) -> Roles:
        if roles.champion != champion:
            raise ConfigError(
                f"version {number} was compared with version {champion}, but by now the champion is {roles.champion}; "
                "no role was changed",
                hint="retrain, or give it a role by hand: `streamproc models activate`",
            )
        return changed(roles, number, "challenger", share)

    who = Who.now(None, f"retrained, not worse than version {champion}")
    told = run_until_terminated(write_roles(declared(pipeline, model), log, who, challenged))
    sys.stderr.write(told.text() + "\n")


def _unseen(champion: Manifest, history: History, window: Window) -> None:
    """What the champion has learned from would flatter it."""
    import numpy as np

    from models.training.folds import folds

    start = np.datetime64(folds(history, window)[-1].test.start, "ms")
    if np.datetime64(champion.learned.stop.removesuffix("Z")) > start:
        raise ConfigError(
            f"the version that serves has learned from payments until {champion.learned.stop[:10]}, the days to "
            f"compare on begin on {str(start)[:10]}",
            hint="give newer files, too",
        )


def _said(found: Comparison, version: int) -> str:
    return (
        f"average precision on the same {found.cards:,} cards: version {version} {found.champion:.4f}, new "
        f"{found.candidate:.4f}; difference {found.low:+.4f} to {found.high:+.4f} in 95 of 100"
    )
