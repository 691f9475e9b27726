"""The lines of a table's file, as texts: CSV with a header, or JSON, one object a line (NDJSON)."""

from __future__ import annotations

__all__ = ["JSON_ENDINGS", "Cells", "TableLines", "commas_hint", "csv_lines", "json_lines"]

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

from state.errors import ConfigError, Place

JSON_ENDINGS = (".ndjson", ".jsonl", ".json")
Cells = tuple[int, list[str]]
"""A line's number, and its texts in the order of the header."""


_QUOTES = 'a cell in quotes ends with one, a quote in it is written ""'


class TableLines(NamedTuple):
    """What the columns are called, and the lines below."""

    header: list[str]
    lines: Iterator[Cells]


def commas_hint(names: Sequence[str]) -> str | None:
    """What to do about a header that other signs than commas separate; None: it has none."""
    found = next((sign for sign in ";\t|" if len(names) == 1 and sign in names[0]), None)
    return found and f"cells are separated by commas, not by {'tabs' if found == chr(9) else found}"


def csv_lines(opened: IO[str], file: str) -> TableLines:
    """Of a CSV file. Wrong quotes are a ConfigError with the line where the row begins, now or where it is read."""
    reader = csv.reader(opened, strict=True)

    def lines() -> Iterator[Cells]:
        while True:
            begin = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ConfigError(f"this is no row of CSV: {error}", Place(file, begin, 1), _QUOTES) from None
            if cells is None:
                return
            yield reader.line_num, [cell.strip() for cell in cells]

    rows = lines()
    _, header = next(rows, (0, []))
    return TableLines(header, rows)


def json_lines(opened: IO[str], file: str, note: Callable[[ConfigError], None]) -> TableLines:
    """Of a file with one JSON object a line; the columns are those of all of them. Numbers stay as they are written.

    `note`: told of lines that are none; these are left out.
    """
    objects: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(opened, 1):
        if line.strip():
            try:
                objects.append((number, _object(line, Place(file, number, 1))))
            except ConfigError as error:
                note(error)
    header = list(dict.fromkeys(name for _, one in objects for name in one))
    return TableLines(header, ((number, [one.get(name, "") for name in header]) for number, one in objects))


def _object(line: str, place: Place) -> dict[str, str]:
    try:
        told = json.loads(line.rstrip(), parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise ConfigError(f"this is no JSON: {error.msg}", Place(place.file, place.line, error.colno)) from None
    except RecursionError:
        raise ConfigError("this is no JSON object of one row", place) from None
    if not isinstance(told, dict):
        raise ConfigError("this is no JSON object", place, "one a line: NDJSON")
    cells = {}
    for name, value in told.items():
        if not isinstance(value, str | bool | None):
            raise ConfigError(f"{name} is neither a text, a number, true, false nor null", place)
        cells[name] = "" if value is None else str(value).lower() if isinstance(value, bool) else value
    return cells
