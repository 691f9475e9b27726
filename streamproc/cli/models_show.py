"""`streamproc models show`: what a version is."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import Annotated

import typer

from streamproc.cli.options import AsJson
from streamproc.cli.stdout import writing_stdout
from streamproc.cli.train_options import Registry

EXAMPLES = ("streamproc models show fraud --registry models", "streamproc models show fraud 3 --registry models --json")


def command(
    model: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")],
    version: Annotated[int, typer.Argument(metavar="[VERSION]", help="The newest one if absent.", min=0)] = 0,
    *,
    registry: Registry,
    as_json: AsJson = False,
) -> None:
    """Print a version's model card, or with --json its manifest; its files are compared with their digests first."""
    from models.manifest import CARD, MANIFEST
    from models.registry import open_registry
    from state.errors import ConfigError
    from streamproc.language.problems import nearest

    models = open_registry(registry)
    known = models.names()
    if model not in known:
        raise ConfigError(f"the registry {registry} has no model {model}", hint=nearest(model, known))
    version = version or models.versions(model)[-1]
    models.check(model, version)
    shown = models.file(model, version, MANIFEST if as_json else CARD)
    with writing_stdout():
        sys.stdout.buffer.write(shown)
