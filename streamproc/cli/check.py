"""`streamproc check`: does this operator keep what the runtime relies on?"""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli.options import refuse_unless
from streamproc.cli.stdout import writing_stdout

if TYPE_CHECKING:
    from operators.operator import Operator
    from operators.schema import DataType

EXAMPLES = ("streamproc check ops.py:NewCountry --option field=country --input country=string",)
_SEEDS = ("1", "2")
_NAME = "hash-seeds"


def command(
    operator: Annotated[
        str, typer.Argument(metavar="FILE.py:OPERATOR", help="The operator's class; or package.module:OPERATOR.")
    ],
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="An option as a pipeline would give it; may be repeated."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=TYPE",
            help="The type of an input whose type the operator does not say; may be repeated.",
        ),
    ] = None,
    digest: Annotated[bool, typer.Option("--digest", hidden=True)] = False,
) -> None:
    """Try an operator on random rows: batches cut elsewhere, a restore in the middle, undone batches, late rows, NULLs.

    One line a check on stdout; of a failed one, the fewest rows that show the fault on stderr, and the exit code is 1.
    """
    given, types = _pairs(options or [], "--option"), _types(inputs or [])
    make = _maker(operator, {name: _value(text) for name, text in given.items()})
    _check_inputs(types, make())

    from operators.checks import Outcome, results_digest, run_checks

    if digest:
        print(results_digest(make, types=types))  # noqa: T201 - for the process that compares
        return
    outcomes = run_checks(make, types=types)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if not any(outcome.check in ("declaration", "computes", "determinism") for outcome in failed):
        named = [("--option", text) for text in options or []] + [("--input", text) for text in inputs or []]
        arguments = [operator, *(word for pair in named for word in pair)]
        same = len({_elsewhere(arguments, seed) for seed in _SEEDS}) == 1
        wrong = "with another PYTHONHASHSEED it gives something else: does it go through a set, or call hash()?"
        outcomes.append(Outcome(_NAME, "ok") if same else Outcome(_NAME, "failed", wrong))
    for outcome in outcomes:
        with writing_stdout():
            print(outcome.line)  # noqa: T201 - the command's data
        if outcome.rows is not None:
            sys.stderr.write(f"{outcome.check} fails with\n{outcome.rows.table()}\n")
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _maker(reference: str, options: Mapping[str, Any]) -> Callable[[], Operator]:
    """What makes the operator; a file may lie anywhere.

    Raises:
        ConfigError: there is no such operator, or it does not take these options.
    """
    from state.errors import ConfigError, Place
    from streamproc.language.user_operators import load_operator

    path, _, name = reference.rpartition(":")
    place = Place(path or reference)
    if path.endswith(".py"):
        file = Path(path)
        loaded = load_operator(f"./{file.name}:{name}", file.parent, place)
    else:
        loaded = load_operator(reference, Path(), place)
    try:
        loaded(**options)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{name}: {error}", hint="give its options with --option name=value") from error
    return lambda: loaded(**options)


def _check_inputs(types: Mapping[str, DataType], operator: Operator) -> None:
    """Refuse a type for what the operator does not read.

    Raises:
        ConfigError: there is one.
    """
    from streamproc.language.problems import nearest

    known = [str(name) for name in operator.inputs]
    for name in types:
        wrong = f"--input {name}: {type(operator).__name__} has no such input"
        refuse_unless(name in known, wrong, nearest(name, known) or "it has none")


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        refuse_unless(bool(name and equals), f"{option} {text}: there is no =", f"{option} name=value")
        found[name] = value
    return found


def _types(texts: Sequence[str]) -> dict[str, DataType]:
    from state.errors import ConfigError
    from streamproc.language.units import parse_type

    try:
        return {name: parse_type(text) for name, text in _pairs(texts, "--input").items()}
    except ValueError as error:
        raise ConfigError(f"--input: {error}") from None


def _value(text: str) -> Any:
    """As JSON where it is some (numbers, true, lists), else the text itself."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _elsewhere(arguments: Sequence[str], seed: str) -> str:
    """What the same rows come to in a process whose hashes differ.

    Raises:
        StreamprocError: it failed.
    """
    from state.errors import StreamprocError

    words = [sys.executable, "-m", "streamproc.cli.main", "check", *arguments, "--digest"]
    done = subprocess.run(  # noqa: S603 - ourselves
        words, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StreamprocError(f"the check failed in another process: {done.stderr[-300:]}")
    return done.stdout
