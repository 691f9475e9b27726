"""What `train` and `retrain` have in common: from files to a history, and from a version to a registry."""

from __future__ import annotations

__all__ = [
    "Where",
    "labelled_history",
    "model_of",
    "need_libraries",
    "picked",
    "plain_history",
    "register",
    "served_by",
    "tell",
]

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from state.errors import ConfigError
from streamproc.cli.options import refuse_unless
from streamproc.cli.stdout import writing_stdout

if TYPE_CHECKING:
    from models.registry import Registry
    from models.training.history import History
    from models.training.train import Trained
    from operators.plan import Plan
    from streamproc.cli.labelled import Labels
    from streamproc.language.model import Model, Pipeline


def need_libraries(algorithm: str) -> None:
    """Refuse to begin without the extra `streamproc[train]`."""
    from importlib.util import find_spec

    learner = (algorithm,) if algorithm != "logistic" else ()
    missing = [name for name in (*learner, "onnx") if find_spec(name) is None]
    refuse_unless(
        not missing, f"training needs {' and '.join(missing)}", "install them: pip install 'streamproc[train]'"
    )


def model_of(path: str, name: str) -> tuple[Pipeline, Model]:
    """A pipeline, and its model of that name.

    Raises:
        ConfigError: it has none.
    """
    from streamproc.language import load_pipeline
    from streamproc.language.problems import nearest

    pipeline = load_pipeline(path)
    if name not in pipeline.models:
        hint = nearest(name, pipeline.models) or f"models: {{{name}: {{registry: DIR, version: 1, features: [...]}}}}"
        raise ConfigError(f"the pipeline {pipeline.pipeline} has no model {name}", hint=hint)
    return pipeline, pipeline.models[name]


class Where(NamedTuple):
    """Where labels are; `file`: None: in the records. `label`: None: the file lists frauds."""

    label: str | None
    file: Path | None
    others_legitimate: bool


def served_by(pipeline: Pipeline, name: str, model: Model) -> tuple[Registry, int]:
    """Where a model's versions are, and which of them the file names as champion.

    Raises:
        ConfigError: it has none, or there is no such registry.
    """
    from models.registry import open_registry

    if model.served is None:
        raise ConfigError(f"the model {name} has no registered version", hint="train it: `streamproc train`")
    return open_registry(model.served.address(pipeline.folder)), model.served.version


def picked(name: str, trained: Sequence[str], now: Sequence[str]) -> list[int]:
    """The places of a version's features among the pipeline's.

    Raises:
        ConfigError: it was trained with one that the pipeline does not give.
    """
    if missing := [feature for feature in trained if feature not in now]:
        raise ConfigError(
            f"the registered version of {name} was trained with {', '.join(missing)}, which the pipeline does not "
            "give it",
            hint="`streamproc train` makes a first version without",
        )
    return [now.index(feature) for feature in trained]


def labelled_history(
    pipeline: Pipeline, inputs: Sequence[str], card: str | None, where: Where
) -> tuple[Sequence[Plan], History]:
    """The plans, and what they make of the files."""
    plans = _plans(pipeline)
    return plans, _read(plans, inputs, _labels(plans[0], card, where))


def plain_history(pipeline: Pipeline, inputs: Sequence[str]) -> History:
    """What the plans make of files without labels."""
    return _read(_plans(pipeline), inputs, None)


def _plans(pipeline: Pipeline) -> Sequence[Plan]:
    from models.absent import Blank
    from streamproc.cli.common import compiled

    return compiled(pipeline, Blank)


def _read(plans: Sequence[Plan], inputs: Sequence[str], labels: Labels | None) -> History:
    from models.training.history import joined
    from operators.plan import streams_of
    from streamproc.cli.columns import survey
    from streamproc.cli.files import resolve_inputs
    from streamproc.cli.labelled import read_history
    from streamproc.cli.logs import configure_logs
    from streamproc.cli.progress import Progress
    from streamproc.cli.refusals import Refusals
    from streamproc.cli.side_rows import file_pieces

    configure_logs()
    paths = resolve_inputs(inputs, plans)
    decided, *others = streams_of(plans).items()
    for name, stream in (decided, *others):
        survey(paths[name], stream)
    now_ms = time.time_ns() // 1_000_000
    sides = {name: file_pieces(stream, paths[name], now_ms) for name, stream in others}
    rows, records, parts, refusals = 0, 0, [], Refusals()
    with Progress("features", sum(path.stat().st_size for path in paths[decided[0]])) as progress:
        for result, part in read_history(plans, paths[decided[0]], labels, sides):
            parts.append(part)
            rows += len(part.labels)
            records += len(result.piece.rows) + len(result.piece.skipped)
            for _, reason in result.piece.skipped:
                refusals.add(reason, "this row is no record")
            for letter in result.refused:
                refusals.add(letter.reason, letter.detail)
            progress.update(result.progress, rows)
    sys.stderr.write(refusals.left_out(records))
    return joined(parts)


def _labels(first: Plan, card: str | None, where: Where) -> Labels:
    from streamproc.cli.labelled import Labels
    from streamproc.cli.labels_file import LABEL_AT, read_labels

    key = _card_of(first, card)
    refuse_unless(
        where.label is not None or where.file is not None,
        "nothing says what is a fraud",
        "name a column of the input, --label COLUMN, or a list of frauds, --labels FILE",
    )
    refuse_unless(
        where.file is not None or not where.others_legitimate,
        "--others-legitimate is for labels that are apart",
        "give --labels, or leave it out",
    )
    if where.file is None:
        return Labels(where.label, key)
    name = first.stream.field(first.stream.id).source
    apart = read_labels(where.file, name, where.label, others_legitimate=where.others_legitimate)
    if not apart.timed:
        tell(f"{where.file.name} has no {LABEL_AT}: each label counts as known the label delay after its payment")
    return Labels(where.label, key, apart)


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


def tell(line: str) -> None:
    """A line of progress, on stderr."""
    sys.stderr.write(f"train: {line}\n")


def register(models: Registry, name: str, trained: Trained, folder: Path | None, as_json: bool) -> int:
    """Add a version, and say what it can do; its number. `folder`: the pipeline's, to say how its file names the
    version; None: roles will, and the file has no say.
    """
    from models.manifest import CARD, MANIFEST
    from models.registry import is_address

    number = models.add(name, trained.files)
    line, test = trained.manifest.threshold, trained.manifest.folds[-1]
    sys.stderr.write(
        f"{models.where}/{name}/{number}: of the test's {test.test.frauds:,} frauds it finds {line.test_recall:.1%} "
        f"at a score above {line.score:g}, with {line.test_false_positives:.3%} of the legitimate ones; see {CARD}\n"
    )
    if folder is not None:
        there = models.where if is_address(models.where) else os.path.relpath(models.where, folder)
        sys.stderr.write(f"use it: models: {{{name}: {{registry: {there}, version: {number}, features: [...]}}}}\n")
    if as_json:
        with writing_stdout():
            sys.stdout.buffer.write(b'{"version":%d,"manifest":' % number + trained.files[MANIFEST].strip() + b"}\n")
    return number
