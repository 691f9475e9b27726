"""`streamproc fmt`: lay out pipelines and other YAML files of ours."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import Annotated

import typer

from state.errors import ConfigError, Place
from streamproc.cli.replacing import replacing
from streamproc.cli.stdout import writing_stdout

EXAMPLES = (
    "streamproc fmt configs/pipeline.yaml configs/tests/rules.yaml",
    "streamproc fmt --check configs/pipeline.yaml",
)
STDIN = "-"


def command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML files; -: from stdin to stdout.")],
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; name the files that would change, and exit with 1.")
    ] = False,
) -> int:
    """Lay out YAML files in place: pipelines, rule tests, environments.

    Indentation, blanks and empty lines are made even. Words, comments, order and line breaks stay as they are; what a
    file says does not change. A file that is no YAML is left alone, and the exit code is 2.
    """
    from streamproc.language.layout import formatted
    from streamproc.language.problems import Problems

    problems, changed = Problems(), False
    with writing_stdout():
        for file in files:
            with problems.caught():
                content = _read(file)
                made = formatted(_text(content, file), file).encode()
                if file == STDIN and not check:
                    sys.stdout.write(made.decode())
                elif made != content:
                    changed = True
                    _tell(file, made, check=check)
    problems.check()
    return int(check and changed)


def _read(file: str) -> bytes:
    """A little more than the parser takes, at most."""
    from streamproc.language.yaml_tree import SIZE_MAX

    most = 4 * SIZE_MAX + 1
    if file == STDIN:
        return sys.stdin.buffer.read(most)
    try:
        with open(file, "rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", Place(file)) from None


def _text(content: bytes, file: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8 text", Place(file)) from None


def _tell(file: str, made: bytes, *, check: bool) -> None:
    """Write the file anew, or only say that it would be."""
    if check:
        sys.stdout.write(f"{file}\n")
        return
    path = Path(file).resolve()
    with replacing(path) as draft:
        draft.write_bytes(made)
        draft.chmod(path.stat().st_mode)
    sys.stderr.write(f"laid out {file}\n")
