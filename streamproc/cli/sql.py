"""`streamproc sql`: run the SQL statements of a file over files."""

from __future__ import annotations

__all__ = ["EXAMPLES", "SqlCommand", "command"]

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from state.errors import ConfigError, Place
from streamproc.cli.backtest import one_input_each
from streamproc.cli.options import refuse_unless
from streamproc.cli.replacing import replacing
from streamproc.cli.stdout import writing_stdout

EXAMPLES = (
    "streamproc sql large.sql --input payments=may.csv",
    "streamproc sql velocity.sql --input payments=may.parquet accounts=changes.ndjson --output flagged.ndjson",
)


class SqlCommand(TyperCommand):
    """Lets `--input` take several files: all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write `--input A B` as `--input A --input B`."""
        return super().parse_args(ctx, one_input_each(args))


def command(
    file: Annotated[str, typer.Argument(metavar="FILE.sql", help="The statements.")],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="TABLE=FILE...",
            help="After FILE.sql: Parquet, CSV or NDJSON files, a table's one after the other; may be repeated.",
        ),
    ],
    output: Annotated[str, typer.Option("--output", metavar="FILE", help="NDJSON, one object a row; -: stdout.")] = "-",
) -> int:
    """Run SQL statements over files; rows come out as NDJSON, in order of emission.

    Statements are Flink SQL's; docs/language/sql says which. Columns have the types that CREATE TABLE declares, else
    those that all their values have.
    """
    from streamproc.cli.sql_tables import load_tables
    from streamproc.sql import CreateTable, compile_file, parse_file

    paths = _inputs(inputs)
    _refuse_overwriting(output, [Path(file), *(path for each in paths.values() for path in each)])
    statements = parse_file(_text(file), file)
    declared: dict[str, CreateTable] = {}
    for one in statements:
        if isinstance(one, CreateTable):
            if one.name in declared:
                raise ConfigError(f"the table {one.name} is declared twice", one.place)
            declared[one.name] = one
    _tell_misspelt({name: one.place for name, one in declared.items()}, paths)
    tables = load_tables(paths, declared)
    queries = compile_file(statements, tables)
    refuse_unless(bool(queries), f"{file} has no query", "CREATE TABLE only declares an input: add a SELECT")
    for line in dict.fromkeys(line for query in queries for line in query.warnings()):
        sys.stderr.write(f"warning: {line}\n")
    with _writer(output) as write:
        for query in queries:
            for piece in query.lines(tables):
                write(piece)
    return 0


def _text(file: str) -> str:
    try:
        return Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", Place(file)) from None
    except UnicodeDecodeError:
        raise ConfigError("the file is not UTF-8", Place(file)) from None


def _inputs(given: Sequence[str]) -> dict[str, list[Path]]:
    """Files by table; a word without `TABLE=` is one more file of the table before."""
    paths: dict[str, list[Path]] = {}
    name = ""
    for text in given:
        table, separator, rest = text.partition("=")
        named = bool(separator) and table.isidentifier()
        refuse_unless(
            bool(table) or not separator,
            f"--input {text}: the table's name is missing",
            f"write --input TABLE{text}",
        )
        name = table if named else name
        missing = f"--input {text or repr(text)}: the file is missing"
        refuse_unless(bool(rest if named else text), missing, f"write --input {name or 'TABLE'}=FILE")
        refuse_unless(bool(name), f"--input {text}: whose file is it?", f"write --input TABLE={text}")
        paths.setdefault(name, []).append(Path(rest if named else text))
    return paths


def _refuse_overwriting(output: str, read: Sequence[Path]) -> None:
    """The output may be none of the files that are read, by whatever name.

    Raises:
        ConfigError: it is.
    """
    if output != "-" and os.path.exists(output):
        same = next((one for one in read if os.path.exists(one) and os.path.samefile(output, one)), None)
        refuse_unless(same is None, f"--output {output} is {same}, which is read", "name another file")


def _tell_misspelt(declared: Mapping[str, Place], inputs: Collection[str]) -> None:
    """A warning of declared tables that are no input, but nearly called like one that nothing declares."""
    free = [name for name in inputs if name not in declared]
    for name, place in declared.items():
        near = get_close_matches(name, free, 1) if name not in inputs else []
        if near:
            sys.stderr.write(f"warning: {place}: there is no --input {name}=FILE (did you mean {near[0]}?)\n")


@contextmanager
def _writer(output: str) -> Iterator[Any]:
    """A function that writes bytes to stdout, or to a file that is there once all of it is."""
    if output == "-":
        with writing_stdout():
            yield sys.stdout.buffer.write
        return
    path = Path(output)
    refuse_unless(path.absolute().parent.is_dir(), f"the folder of {path} is missing", "make it first")
    refuse_unless(not path.is_dir(), f"{path} is a directory", "name a file")
    with replacing(path) as draft, open(draft, "wb") as file:
        yield file.write
