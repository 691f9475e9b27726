"""`streamproc new`: a project of one's own, begun with the shipped pipeline."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from streamproc.cli.options import refuse_unless

EXAMPLES = ("streamproc new my-fraud",)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the folder, which is made here, and the pipeline.")],
) -> None:
    """Begin a project: the shipped card_fraud pipeline as your own, with lists, model, rule tests, environments and CI.

    Letters, digits, _ and - make a NAME; it begins with a letter. Nothing that exists is changed.
    """
    refuse_unless(
        _NAME.fullmatch(name) is not None,
        f"{name!r} cannot name a project",
        "a letter, then letters, digits, _ and -, 64 at most; it is made in this folder",
    )
    from streamproc.cli.project import make_project

    made = make_project(Path(), name)
    sys.stderr.write(f"{len(made)} files in {name}: begin with its README.md, or with\n  cd {name} && sh check.sh\n")
