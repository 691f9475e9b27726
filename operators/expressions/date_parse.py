"""Times read by Java's patterns, as Flink's TO_TIMESTAMP has them: UTC, English names; what is left out is 1970's."""

from __future__ import annotations

__all__ = ["parse_date", "reader_of"]

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from operators.expressions.date_format import DAYS, LETTERS, MONTHS, PIECES, plain
from operators.expressions.registers import Kernel, Mask, Register, both

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED: Final = 3  # letters of a short name
_CENTURY: Final = 2000  # of years of two digits
_NOON: Final = 12


def parse_date(pattern: str) -> Kernel:
    """Texts as timestamps by a pattern; NULL where a text is not written so, or names no day."""
    read = reader_of(pattern)

    def run(register: Register) -> Register:
        values, valid, errors = register
        found = list(map(read, values.tolist()))
        known: Mask = np.array([one is not None for one in found])
        return np.array([one or 0 for one in found], np.int64), both(valid, None if known.all() else known), errors

    return run


def reader_of(pattern: str) -> Callable[[str], int | None]:
    """A function that reads a text as ms; None: it is not written so.

    Raises:
        ValueError: a letter, or so many of it, is not known, or stands twice; a quote is open; hours of half a day
            have no "a".
    """
    written, seen = "", set()
    for match in PIECES.finditer(pattern):
        text, letter = match[0], match[1]
        if not letter:
            written += re.escape(plain(text))
            continue
        field = "y" if letter == "u" else letter
        if len(text) > LETTERS.get(letter, (0,))[0] or field in seen:
            raise ValueError(text)
        seen.add(field)
        written += f"(?P<{field}>{_expected(field, len(text))})"
    if ("h" in seen) != ("a" in seen) or {"h", "H"} <= seen:
        raise ValueError("h without a" if "h" in seen else "a without h")
    whole = re.compile(written, re.ASCII)

    def read(text: str) -> int | None:
        found = whole.fullmatch(text)
        return None if found is None else _moment(found.groupdict())

    return read


def _expected(letter: str, width: int) -> str:
    """What so many of a letter may stand for."""
    if letter == "a":
        return "AM|PM"
    if letter in "ME" and width >= _NAMED:
        names = MONTHS if letter == "M" else DAYS
        return "|".join(name[: None if width > _NAMED else _NAMED] for name in names)
    return r"\d{1,4}" if letter == "y" and width == 1 else rf"\d{{{width}}}" if width > 1 or letter == "S" else r"\d\d?"


def _moment(fields: dict[str, str]) -> int | None:
    year, month = fields.get("y", "1970"), fields.get("M", "1")
    hour = int(fields["h"]) % _NOON + _NOON * (fields["a"] == "PM") if "h" in fields else int(fields.get("H", 0))
    if "h" in fields and not 1 <= int(fields["h"]) <= _NOON:
        return None
    micros = int(f"{fields.get('S', ''):0<6}"[:6])
    try:
        moment = datetime(
            int(year) + (_CENTURY if len(year) == 2 else 0),
            int(month) if month.isdecimal() else [name[:_NAMED] for name in MONTHS].index(month[:_NAMED]) + 1,
            int(fields.get("d", 1)),
            hour,
            int(fields.get("m", 0)),
            int(fields.get("s", 0)),
            micros,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    if fields.get("E", "")[:_NAMED] not in ("", DAYS[moment.weekday()][:_NAMED]):
        return None
    return (moment - _EPOCH) // timedelta(milliseconds=1)
