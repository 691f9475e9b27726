"""CREATE TABLE: the types of a table's columns and its event time. What connectors need is skipped."""

from __future__ import annotations

__all__ = ["CreateTable", "parse_create"]

from typing import Final, NamedTuple

from sqlglot.tokenizer_core import Token

from operators.schema import SCALE_MAX, DataType, Kind
from state.errors import ConfigError, Place
from streamproc.language.problems import nearest
from streamproc.sql.words import Words

_DECIMALS: Final = ("DECIMAL", "DEC", "NUMERIC")
_TYPES: Final = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "INT64"), DataType(Kind.INT64)),
    **dict.fromkeys(("FLOAT", "DOUBLE", "REAL", "FLOAT64"), DataType(Kind.FLOAT64)),
    **dict.fromkeys(("STRING", "VARCHAR", "CHAR", "TEXT"), DataType(Kind.STRING)),
    **dict.fromkeys(("BOOLEAN", "BOOL"), DataType(Kind.BOOL)),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_LTZ", "TIMESTAMPTZ", "DATE"), DataType(Kind.TIMESTAMP)),
}


class CreateTable(NamedTuple):
    """A declared table. `types`: by column, in order; `event_time`: its WATERMARK's column, if it has one; `days`: the
    columns of type DATE; `places`: of the columns."""

    name: str
    types: dict[str, DataType]
    event_time: str | None
    required: frozenset[str]
    place: Place
    processing: frozenset[str]
    days: frozenset[str]
    places: dict[str, Place]


class _Columns(NamedTuple):
    """What has been read of columns: types and places; those that are NOT NULL, AS PROCTIME(), DATE."""

    types: dict[str, DataType]
    places: dict[str, Place]
    required: set[str]
    processing: set[str]
    days: set[str]


def parse_create(tokens: list[Token], text: str, place: Place) -> CreateTable:
    """The CREATE TABLE that these words are.

    Raises:
        ConfigError: it is none, or one that we cannot read; with its place.
    """
    words = Words(tokens, text, place)
    began = words.place()
    words.want("CREATE")
    words.skip("TEMPORARY")
    if words.peek() != "TABLE":
        raise words.refuse(
            f"CREATE {words.peek()} is no statement of the subset",
            "CREATE TABLE declares an input, CREATE VIEW names a query",
        )
    words.want("TABLE")
    if words.skip("IF"):
        words.want("NOT", "EXISTS")
    name = words.name()
    words.want("(")
    columns = _Columns({}, {}, set(), set(), set())
    times: list[tuple[str, ConfigError]] = []
    while True:
        _item(words, columns, times)
        if not words.skip(","):
            break
    words.want(")")
    if words.rest() and words.peek() not in {"WITH", "COMMENT", "PARTITIONED"}:
        raise words.refuse(f"{words.peek()} is not known here", "WITH (...) may follow")
    event_time = _event_time(columns.types, times)
    marked = frozenset(columns.required), began, frozenset(columns.processing), frozenset(columns.days)
    return CreateTable(name, columns.types, event_time, *marked, columns.places)


def _item(words: Words, columns: _Columns, times: list[tuple[str, ConfigError]]) -> None:
    """One column, or something else that is declared."""
    types = columns.types
    if words.peek() == "WATERMARK" and words.peek(1) == "FOR":
        words.want("WATERMARK", "FOR")
        wrong = words.refuse("WATERMARK names no timestamp column of the table")
        column = words.name()
        words.want("AS")
        if words.peek() != column.upper():
            other = words.refuse(f"a watermark is {column} or {column} - INTERVAL '5' SECOND")
            raise _unknown(column, wrong, types) or _unknown(words.name(), other, types) or other
        times.append((column, wrong))
        words.over_item()
    elif words.peek().partition(" ")[0] in {"PRIMARY", "CONSTRAINT", "UNIQUE"} and words.peek(1) != ",":
        words.over_item()
    else:
        place = words.place()
        column = words.name()
        if column in types:
            raise ConfigError(f"two columns are called {column}", place)
        if words.skip("AS", "PROCTIME", "(", ")"):
            columns.processing.add(column)
            return
        if words.peek() == "AS":
            raise words.refuse("computed columns are not part of the subset", "compute it in a query")
        if words.peek() == "DATE":
            columns.days.add(column)
        _refuse_metadata(words)
        types[column], columns.places[column] = _type(words), place
        _refuse_metadata(words)
        if words.peek() == "NOT" and words.peek(1) == "NULL":
            columns.required.add(column)
        words.over_item()


def _refuse_metadata(words: Words) -> None:
    if words.peek() == "METADATA":
        raise words.refuse("metadata columns are not part of the subset: a file has none")


def _unknown(column: str, at: ConfigError, types: dict[str, DataType]) -> ConfigError | None:
    """What is said of a watermark's column that is not declared before it; None: it is."""
    if column in types:
        return None
    times = [one for one, kind in types.items() if kind.kind is Kind.TIMESTAMP]
    return ConfigError(f"there is no column {column}", at.place, nearest(column, times or types))


def _type(words: Words) -> DataType:
    """A column's type."""
    wrong = words.refuse("")
    name = words.name().upper()
    sizes = []
    if words.skip("("):
        while words.rest() and not words.skip(")"):
            sizes.append(words.peek())
            words.step()
    if name in _DECIMALS:
        scale = sizes[-1] if len(sizes) > 1 else "0"
        if not scale.isdecimal() or int(scale) > SCALE_MAX:
            raise ConfigError(f"at most {SCALE_MAX} decimals are kept: DECIMAL(18, 2)", wrong.place)
        return DataType(Kind.DECIMAL, int(scale))
    if name not in _TYPES:
        raise ConfigError(f"there is no type {name}", wrong.place, nearest(name, [*_TYPES, *_DECIMALS]))
    return _TYPES[name]


def _event_time(types: dict[str, DataType], times: list[tuple[str, ConfigError]]) -> str | None:
    for column, wrong in times:
        if types.get(column) != DataType(Kind.TIMESTAMP):
            known = [one for one, kind in types.items() if kind.kind is Kind.TIMESTAMP]
            raise ConfigError(wrong.message, wrong.place, nearest(column, known))
    if len(times) > 1:
        raise ConfigError("a table has one WATERMARK", times[1][1].place)
    return times[0][0] if times else None
