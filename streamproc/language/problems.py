"""What is wrong with an analyst's file: collected, ordered by place and reported together."""

from __future__ import annotations

__all__ = ["SAID_MAX", "PipelineError", "Problems", "fullwidth_hint", "nearest"]

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from state.errors import ConfigError, Place

_FULLWIDTH = {chr(ord(sign) + 0xFEE0): sign for sign in ":,;{}[]()\"'#-|=<>"}
_LISTED_MAX = 13
SAID_MAX = 100
"""Errors that are said of one file."""


class PipelineError(ConfigError):
    """Everything found wrong in one go; `errors` in order of place.

    `message`, `place` and `hint` are the first error's; the text has a line for each of the first `SAID_MAX`.
    """

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(sorted(errors, key=_order))
        first = self.errors[0]
        super().__init__(first.message, first.place, first.hint)

    def __str__(self) -> str:
        said = [str(error) for error in self.errors[:SAID_MAX]]
        more = len(self.errors) - SAID_MAX
        return "\n".join([*said, f"{more} more are not shown"] if more > 0 else said)


class Problems:
    """Collects errors so that one run names them all."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []
        self._known: set[str] = set()

    def add(self, message: str, place: Place | None, hint: str | None = None) -> None:
        """Note an error and go on; the same text at the same place is noted once."""
        self.note(ConfigError(message, place, hint))

    def note(self, error: ConfigError) -> None:
        """Note an error that something else raised."""
        found = error.errors if isinstance(error, PipelineError) else (error,)
        for one in found:
            if (said := str(one)) not in self._known:
                self._known.add(said)
                self.errors.append(one)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Note a ConfigError of the block and go on after it."""
        try:
            yield
        except ConfigError as error:
            self.note(error)

    def check(self) -> None:
        """End here if something was noted.

        Raises:
            PipelineError: with all of it.
        """
        if self.errors:
            raise PipelineError(self.errors)


def fullwidth_hint(text: str) -> str | None:
    """What to do about the signs of an East Asian keyboard, which look like YAML's and mean nothing; None: no such.

    >>> fullwidth_hint("then\uff1a decline")
    "'\uff1a' is a full-width sign: write ':'"
    """
    found = next((sign for sign in text if sign in _FULLWIDTH), None)
    return found and f"{found!r} is a full-width sign: write {_FULLWIDTH[found]!r}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """A hint that leads from a wrong name to a right one: the nearest, or all if they are few.

    >>> nearest("amonut", ["amount", "card_id"])
    'did you mean amount?'
    >>> nearest("xyz", ["a", "b"])
    'one of a, b'
    """
    known = list(dict.fromkeys(names))
    lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), lower, 1, 0.6)
    if close:
        return f"did you mean {lower[close[0]]}?"
    if 0 < len(known) <= _LISTED_MAX:
        return ("one of " if len(known) > 1 else "there is only ") + ", ".join(known)
    return None


def _order(error: ConfigError) -> tuple[str, int, int]:
    place = error.place
    return (place.file, place.line, place.column) if place else ("", 0, 0)
