"""Timestamps as text by Java's patterns, as Flink's DATE_FORMAT has them: UTC, English names."""

from __future__ import annotations

__all__ = ["DAYS", "LETTERS", "MONTHS", "PIECES", "date_format", "pieces_of", "plain"]

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from operators.expressions.registers import OVERFLOW, Array, Kernel, Mask, checked
from operators.values import TIME_MAX, TIME_MIN

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PIECES: Final = re.compile(r"'(?:[^']|'')*'|([A-Za-z])\1*|[^A-Za-z']+|.", re.DOTALL)
_NAMED: Final = 3  # letters of a short name
_FRACTION_MAX: Final = 9
Piece = Callable[[datetime], str]


def _number(read: Callable[[datetime], int]) -> Callable[[int], Piece]:
    return lambda width: lambda moment: f"{read(moment):0{width}}"


def _year(width: int) -> Piece:
    return (lambda moment: f"{moment.year % 100:02}") if width == 2 else _number(lambda moment: moment.year)(width)


def _month(width: int) -> Piece:
    if width < _NAMED:
        return _number(lambda moment: moment.month)(width)
    return lambda moment: MONTHS[moment.month - 1][: None if width > _NAMED else _NAMED]


def _day_name(width: int) -> Piece:
    return lambda moment: DAYS[moment.weekday()][: None if width > _NAMED else _NAMED]


def _fraction(width: int) -> Piece:
    return lambda moment: f"{moment.microsecond:06}000"[:width]


LETTERS: Final[dict[str, tuple[int, Callable[[int], Piece]]]] = {
    "y": (4, _year),
    "u": (4, _year),
    "M": (4, _month),
    "d": (2, _number(lambda moment: moment.day)),
    "E": (4, _day_name),
    "H": (2, _number(lambda moment: moment.hour)),
    "h": (2, _number(lambda moment: (moment.hour + 11) % 12 + 1)),
    "m": (2, _number(lambda moment: moment.minute)),
    "s": (2, _number(lambda moment: moment.second)),
    "S": (_FRACTION_MAX, _fraction),
    "a": (1, lambda _: lambda moment: "AM" if moment.hour < 12 else "PM"),
}
"""Letters of a pattern: how many of them may follow each other, and what so many write."""


def pieces_of(pattern: str) -> list[Piece]:
    """What a pattern writes.

    Raises:
        ValueError: a letter, or so many of it, is not known; a quote is open.
    """
    found: list[Piece] = []
    for match in PIECES.finditer(pattern):
        text, letter = match[0], match[1]
        if letter:
            most, make = LETTERS.get(letter, (0, _number(lambda moment: 0)))
            if len(text) > most:
                raise ValueError(text)
            found.append(make(len(text)))
        else:
            said = plain(text)
            found.append(lambda moment, said=said: said)  # type: ignore[misc]
    return found


def plain(text: str) -> str:
    """What a piece of a pattern without letters stands for.

    Raises:
        ValueError: a quote that is open.
    """
    if text == "'":
        raise ValueError(text)
    return text[1:-1].replace("''", "'") or "'" if text[0] == "'" else text


def date_format(pattern: str) -> Kernel:
    """Timestamps in UTC by a pattern; one beyond year 9999 is an overflow."""
    pieces = pieces_of(pattern)

    def one(value: int) -> str:
        moment = _EPOCH + timedelta(milliseconds=value)
        return "".join([piece(moment) for piece in pieces])

    def run(values: Array) -> tuple[Array, Mask | None]:
        bad = (values < TIME_MIN) | (values > TIME_MAX)
        texts = np.empty(len(values), np.object_)
        texts[:] = list(map(one, np.where(bad, 0, values).tolist()))
        return texts, bad

    return checked(run, OVERFLOW)
