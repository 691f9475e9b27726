"""Cases as the runner needs them: records in order, and what is expected of some of them."""

from __future__ import annotations

__all__ = ["Case", "Expected", "Given", "Told"]

from typing import Any

import msgspec

from state.errors import Place
from streamproc.language.cases.values import Value, Wanted


class Given(msgspec.Struct, frozen=True):
    """One record. `label` names it to people; `logged`: its time in the log, ms; `stream`: whose it is; `answers`: what
    services say of it; `late`: it is past the pipeline's deadline when it is decided.
    """

    label: str
    value: bytes
    logged: int
    stream: str
    answers: dict[str, Any] = {}
    late: bool = False


class Expected(msgspec.Struct, frozen=True):
    """What must come out of the record at index `given`; None: whatever it is.

    `hits` and `misses`: ids of rules. `columns`: by name, also the score's and the tier's. `dead_letter`: the
    reason, and then nothing else. `duplicate` is always looked at: one that nobody expects is a mistake in the case.
    """

    given: int
    place: Place
    decision: str | None = None
    reasons: tuple[str, ...] | None = None
    hits: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    columns: dict[str, Value] = {}
    dead_letter: str | None = None
    duplicate: bool = False


class Told(msgspec.Struct, frozen=True):
    """All that an alert or a statement must tell, in order: of each record some fields, by name."""

    name: str
    place: Place
    rows: tuple[dict[str, Wanted], ...]


class Case(msgspec.Struct, frozen=True):
    """One case: begins with empty state. `place`: where it stands; its file names it to people."""

    name: str
    place: Place
    given: tuple[Given, ...]
    expected: tuple[Expected, ...]
    told: tuple[Told, ...] = ()
