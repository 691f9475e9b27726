"""`streamproc models list`: which versions there are, and how good they are."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import AsJson
from streamproc.cli.stdout import writing_stdout
from streamproc.cli.train_options import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.manifest import Manifest

EXAMPLES = (
    "streamproc models list --registry models",
    "streamproc models list --registry models --pipeline shop.yaml --log kafka://localhost:9092",
)


def command(
    registry: Registry,
    *,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", metavar="PIPELINE", help="Say what is at work in it, too; with --log.")
    ] = None,
    log: Annotated[str | None, typer.Option("--log", metavar="URL", help="The pipeline's event log.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of all models in a registry, with what they reached on the days of their test.

    With a pipeline and its log, also the role that each has there now.
    """
    from models.registry import open_registry

    models = open_registry(registry)
    found = [(number, models.manifest(name, number)) for name in models.names() for number in models.versions(name)]
    roles = _roles(pipeline, log, {manifest.name for _, manifest in found})
    with writing_stdout():
        print(_json(found, roles) if as_json else _table(found, roles), end="")  # noqa: T201 - the command's data


def _roles(pipeline: str | None, log: str | None, models: set[str]) -> dict[tuple[str, int], str] | None:
    """By model and version; None: nobody asked."""
    from state.errors import ConfigError
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.loops import run_async
    from streamproc.cli.model_roles import names_of_roles, roles_at_work
    from streamproc.language import load_pipeline

    if (pipeline is None) != (log is None):
        raise ConfigError("what is at work stands in a pipeline's log", hint="give both: --pipeline and --log")
    if pipeline is None or log is None:
        return None
    refuse_missing_log(log)
    mine = [name for name, model in load_pipeline(pipeline).models.items() if model.served and name in models]
    return names_of_roles({name: run_async(roles_at_work(pipeline, name, log)) for name in mine})


def _json(found: Sequence[tuple[int, Manifest]], roles: dict[tuple[str, int], str] | None) -> str:
    import msgspec

    each = [
        {"model": manifest.name, "version": number, "algorithm": manifest.algorithm, "digest": manifest.digest,
         "test": manifest.folds[-1].metrics, "score": manifest.threshold.score,
         **({} if roles is None else {"role": roles.get((manifest.name, number))})}
        for number, manifest in found
    ]  # fmt: skip
    return msgspec.json.encode(each).decode() + "\n"


def _table(found: Sequence[tuple[int, Manifest]], roles: dict[tuple[str, int], str] | None) -> str:
    from streamproc.cli.aligned import aligned

    header = ["model", "version", "algorithm", "learned until", "AP", "recall at 0.1 %", "flag above", "digest"]
    rows = []
    for number, manifest in found:
        metrics = manifest.folds[-1].metrics
        figures = [f"{metrics[key]:.3f}" for key in ("average_precision", "recall_at_0.001")]
        line, until = f"{manifest.threshold.score:g}", manifest.learned.stop[:10]
        role = [] if roles is None else [roles.get((manifest.name, number), "")]
        rows.append([manifest.name, number, manifest.algorithm, until, *figures, line, manifest.digest[:12], *role])
    return aligned([*header, *([] if roles is None else ["role"])], rows)
