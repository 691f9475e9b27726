"""`streamproc models list`: which versions there are, whether they are whole, and how good they are."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.options import AsJson, refuse_unless
from streamproc.cli.stdout import writing_stdout
from streamproc.cli.train_options import SomeRegistry

if TYPE_CHECKING:
    from models.manifest import Manifest
    from models.registry import Registry
    from state.errors import ConfigError
    from streamproc.language.model import Pipeline

DAMAGED = 1
"""Exit code, so that a daily job tells."""

EXAMPLES = (
    "streamproc models list --registry models",
    "streamproc models list --pipeline shop.yaml --log kafka://localhost:9092",
)
_Roles = dict[tuple[str, int], str]
"""By model and version."""


class _Listed(NamedTuple):
    """A version; `manifest`: None, it cannot be read; `damage`: what keeps it from being loaded; `role`: now."""

    model: str
    version: int
    manifest: Manifest | None
    damage: ConfigError | None
    role: str | None


def command(
    *,
    registry: SomeRegistry = None,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", metavar="PIPELINE", help="Its models, in its registry if --registry is not given."),
    ] = None,
    log: Annotated[
        str | None, typer.Option("--log", metavar="URL", help="The pipeline's event log: say what is at work, too.")
    ] = None,
    environment: EnvironmentName = None,
    as_json: AsJson = False,
) -> None:
    """List versions of models, with what they reached on the days of their test; their files are compared with digests.

    With a pipeline and its log, also the role that each has there now. Exit code 1: a version is damaged, or is at work
    and missing.
    """
    from streamproc.cli.errors import report
    from streamproc.language import load_pipeline

    refuse_unless(
        registry is not None or pipeline is not None,
        "whose versions?",
        "give --registry, or a --pipeline that has one",
    )
    asked = log is None and environment is None
    refuse_unless(asked or pipeline is not None, "roles are a pipeline's", "give --pipeline, too")
    loaded = None if pipeline is None else load_pipeline(pipeline)
    places = list(_places(registry, loaded))
    roles = None if log is None or pipeline is None else _roles(pipeline, log, [name for _, name in places])
    found = [one for models, name in places for one in _listed(models, name, roles or {})]
    with writing_stdout():
        shown = _json if as_json else _table
        print(shown(found, with_roles=roles is not None), end="")  # noqa: T201 - the command's data
    damages = [one.damage for one in found if one.damage]
    for damage in damages:
        report(damage)
    if damages:
        raise typer.Exit(DAMAGED)


def _places(registry: str | None, pipeline: Pipeline | None) -> Iterator[tuple[Registry, str]]:
    """The models to list, and where each is: all in the registry, or those of the pipeline."""
    from models.registry import open_registry

    if registry is not None:
        models = open_registry(registry)
        yield from ((models, name) for name in models.names())
    elif pipeline is not None:
        served = {name: model.served for name, model in pipeline.models.items() if model.served}
        refuse_unless(bool(served), f"{pipeline.pipeline} takes no model from a registry", "give --registry")
        yield from ((open_registry(one.address(pipeline.folder)), name) for name, one in served.items())


def _roles(pipeline: str, log: str, models: Sequence[str]) -> _Roles:
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.loops import run_async
    from streamproc.cli.model_roles import names_of_roles, roles_at_work
    from streamproc.language import load_pipeline

    refuse_missing_log(log)
    mine = [name for name, model in load_pipeline(pipeline).models.items() if model.served and name in models]
    return names_of_roles({name: run_async(roles_at_work(pipeline, name, log)) for name in mine})


def _listed(models: Registry, name: str, roles: _Roles) -> Iterator[_Listed]:
    """A model's versions, and those that are at work without being there.

    Raises:
        OutOfReachError: the registry cannot be read: that says nothing of a version.
    """
    from models.registry import OutOfReachError
    from state.errors import ConfigError

    for version in sorted({*models.versions(name), *(number for of, number in roles if of == name)}):
        manifest, damage = None, None
        try:
            manifest = models.manifest(name, version)
            models.check(name, version)
        except OutOfReachError:
            raise
        except ConfigError as error:
            damage = error
        yield _Listed(name, version, manifest, damage, roles.get((name, version)))


def _json(found: Sequence[_Listed], *, with_roles: bool) -> str:
    import msgspec

    return (
        msgspec.json.encode([_keys(one) | ({"role": one.role} if with_roles else {}) for one in found]).decode() + "\n"
    )


def _keys(one: _Listed) -> dict[str, Any]:
    known = one.manifest
    return {
        "model": one.model,
        "version": one.version,
        "algorithm": known and known.algorithm,
        "digest": known and known.digest,
        "test": known and _reached(known),
        "score": known and known.threshold.score,
        "damage": one.damage and one.damage.message,
    }


def _table(found: Sequence[_Listed], *, with_roles: bool) -> str:
    from streamproc.cli.aligned import aligned

    header = [
        "model",
        "version",
        "algorithm",
        "learned until",
        "AP",
        "recall at 0.1 %",
        "flag above",
        "digest",
        "files",
    ]
    rows = [_cells(one) + ([one.role or ""] if with_roles else []) for one in found]
    return aligned([*header, *(["role"] if with_roles else [])], rows)


def _cells(one: _Listed) -> list[object]:
    cells: list[object] = [None] * 6
    if known := one.manifest:
        figures = map(_reached(known).get, ("average_precision", "recall_at_0.001"))
        reached = [None if figure is None else f"{figure:.3f}" for figure in figures]
        cells = [known.algorithm, known.learned.stop[:10], *reached, f"{known.threshold.score:g}", known.digest[:12]]
    return [one.model, one.version, *cells, "damaged" if one.damage else "sound"]


def _reached(manifest: Manifest) -> dict[str, float]:
    """On its test; a version that another program wrote may have none."""
    return manifest.folds[-1].metrics if manifest.folds else {}
