"""`streamproc models drift`: are the payments of today those that the model learned from?"""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from streamproc.cli.loops import terminable
from streamproc.cli.options import AsJson, PipelinePath, refuse_unless
from streamproc.cli.stdout import writing_stdout
from streamproc.cli.train_options import LabelledInputs, ModelName
from streamproc.cli.training import champion_of, model_of, plain_history, same_features

if TYPE_CHECKING:
    from models.drift import Drift

DRIFTED = 1
"""Exit code, so that a daily job tells."""

EXAMPLES = ("streamproc models drift bank.yaml --input yesterday.parquet --model fraud",)


def command(pipeline: PipelinePath, *, inputs: LabelledInputs, model: ModelName, as_json: AsJson = False) -> None:
    """Compare files with what the registered model learned from: each feature, and the score.

    Features come from the very plan that `run` executes.
    """
    from models.drift import drift_of

    loaded, found = model_of(pipeline, model)
    registry, version = champion_of(loaded, model, found)
    manifest, scorer = registry.manifest(model, version), registry.model(model, version)
    same_features(model, manifest.features, found.features)
    refuse_unless(
        bool(manifest.baseline), "the version has no baseline", "train another: this one is of an older release"
    )
    with terminable():
        rows = plain_history(loaded, inputs)
    columns = {**dict(zip(rows.names, rows.matrix.T, strict=True)), "score": scorer.score(rows.matrix)}
    drifts = [drift_of(name, bins, columns[name]) for name, bins in manifest.baseline.items()]
    drifts.sort(key=lambda one: -one.index)
    _show(drifts, as_json)
    shifted = [one.name for one in drifts if one.shifted]
    if shifted:
        sys.stderr.write(f"drifted from version {version}'s training: {', '.join(shifted)}\n")
        raise typer.Exit(DRIFTED)


def _show(drifts: Sequence[Drift], as_json: bool) -> None:
    import msgspec

    from streamproc.cli.aligned import aligned

    with writing_stdout():
        if as_json:
            print(msgspec.json.encode(drifts).decode())  # noqa: T201 - the command's data
            return
        header = ["feature", "index", "noise", "missing then", "missing now"]
        rows = [
            [one.name, f"{one.index:.4f}", f"{one.noise:.4f}", f"{one.missing_then:.2%}", f"{one.missing:.2%}"]
            for one in drifts
        ]
        print(aligned(header, rows), end="")  # noqa: T201 - the command's data
