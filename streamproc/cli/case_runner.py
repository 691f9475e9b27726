"""Cases run through the plan, each on empty state, and compared with what they expect."""

from __future__ import annotations

__all__ = ["CaseOutcome", "CaseRunner", "Difference"]

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.plan import Plan, streams_of
from operators.schema import Kind
from streamproc.cli.calls import given_answers
from streamproc.cli.case_told import records_told, told_otherwise
from streamproc.cli.files import Piece, line_form
from streamproc.cli.records import key_reader
from streamproc.cli.replay_files import FileReplay
from streamproc.cli.side_rows import SideLetter
from streamproc.language.cases import Case, Expected, time_text
from streamproc.runtime.results import Judged
from streamproc.runtime.rows import Refused

_NULL = "NULL"


class Difference(msgspec.Struct, frozen=True):
    """What one event should have come to, and what it did; all as people read it."""

    event: str
    field: str
    expected: str
    found: str


class CaseOutcome(msgspec.Struct, frozen=True):
    """`hits`: the rules, live or shadow, that any event of the case hit; `told`: the alerts and statements that told
    something.
    """

    case: Case
    differences: tuple[Difference, ...]
    hits: frozenset[str]
    told: frozenset[str]
    seconds: float


class CaseRunner:
    """Runs cases of one pipeline."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: of the stages, in order."""
        self._plans = plans
        self._key_of = {name: key_reader(stream, line_form(stream)) for name, stream in streams_of(plans).items()}

    def run(self, case: Case) -> CaseOutcome:
        """Decide the case's records and compare.

        Raises:
            ConfigError: a plan cannot be executed here.
        """
        began = time.perf_counter()
        decided, *others = ((name, self._piece(case, name)) for name in self._key_of)
        (piece, times), path = decided[1], Path(case.place.file)
        sides = {name: iter([(path, *its)]) for name, its in others}
        replay = FileReplay(self._plans, sides, given_answers([case.given[number].answers for number in piece.numbers]))
        late = [place for place, number in enumerate(piece.numbers) if case.given[number].late]
        judged, refused = replay.decide(piece, times, late)
        letters = replay.rest()
        replay.end()
        told = records_told(replay.told())
        found = _Found(self._plans[-1], judged, refused, piece.numbers, letters)
        differences = [*self._compare(case, found), *_unexpected(case, found)]
        differences += [Difference(*one) for wanted in case.told for one in told_otherwise(wanted, told)]
        seconds = time.perf_counter() - began
        return CaseOutcome(case, tuple(differences), found.all_hits(), frozenset(told), seconds)

    def _piece(self, case: Case, stream: str) -> tuple[Piece, list[int]]:
        """A stream's records, numbered as in the case, from 0; and their log times."""
        mine = [(number, given) for number, given in enumerate(case.given) if given.stream == stream]
        values = [given.value for _, given in mine]
        keys = list(map(self._key_of[stream], values))
        return Piece(values, keys, [number for number, _ in mine], (), 0), [given.logged for _, given in mine]

    def _compare(self, case: Case, found: _Found) -> Iterator[Difference]:
        for expected in case.expected:
            label = case.given[expected.given].label
            for field, wanted, got in _differences(expected, found):
                yield Difference(label, field, wanted, got)


def _differences(expected: Expected, found: _Found) -> Iterator[tuple[str, str, str]]:
    """Field, expected, found."""
    letter = found.letters.get(expected.given)
    if letter is not None or expected.dead_letter is not None:
        wanted = f"decided, as {expected.decision}" if expected.decision else "decided"
        if letter is None:
            yield "dead_letter", str(expected.dead_letter), f"decided, as {found.action(expected.given)}"
        elif expected.dead_letter != letter[0]:
            yield "dead_letter", expected.dead_letter or wanted, ", ".join(filter(None, letter))
        return
    row = found.rows[expected.given]
    if row.duplicate != expected.duplicate:
        yield "duplicate", str(expected.duplicate).lower(), str(row.duplicate).lower()
    action = found.action(expected.given)
    if expected.decision is not None and expected.decision != action:
        yield "decision", expected.decision, action
    reasons = found.reasons(row)
    if expected.reasons is not None and list(expected.reasons) != reasons:
        yield "reasons", _listed(expected.reasons), _listed(reasons)
    hits = found.hits(row)
    for rule in expected.hits:
        if rule not in hits:
            yield "hits", rule, _listed(hits)
    for rule in expected.misses:
        if rule in hits:
            yield "misses", rule, "it hits"
    for name, value in expected.columns.items():
        got = found.value(row, name)
        if not value.fits(got):
            yield name, value.shown, found.shown(name, got)


def _unexpected(case: Case, found: _Found) -> Iterator[Difference]:
    """Dead letters that no expectation names: a mistake in the case, mostly."""
    named = {expected.given for expected in case.expected}
    for given, (reason, detail) in sorted(found.letters.items()):
        if given not in named:
            got = f"{reason}, {detail}" if detail else reason
            yield Difference(case.given[given].label, "dead_letter", "decided", got)


def _listed(texts: Any) -> str:
    return ", ".join(texts) or "none"


class _Row(NamedTuple):
    """Where a record's results lie: among the judged rows, and in the batch of those that are no duplicates."""

    judged: int
    batch: int
    duplicate: bool


class _Found:
    """What was judged, by the index of the record in its case."""

    def __init__(
        self, plan: Plan, judged: Judged, refused: Sequence[Refused], numbers: Sequence[int],
        others: Sequence[SideLetter],
    ) -> None:  # fmt: skip
        """`numbers`: of the decided stream's records, in the case; `others`: what other streams had refused."""
        self._plan = plan
        self._judged = judged
        self.letters = {numbers[letter.offset]: (letter.reason, letter.detail) for letter in refused}
        self.letters |= {letter.number: (letter.reason, letter.detail) for letter in others}
        places = np.searchsorted(judged.fresh, np.arange(judged.rows.size)).tolist()
        self.rows = {
            numbers[offset]: _Row(row, places[row], bool(judged.duplicate[row]))
            for row, offset in enumerate(judged.rows.offsets.tolist())
        }

    def action(self, given: int) -> str:
        return self._judged.decided.action_names[int(self._judged.actions[self.rows[given].judged])]

    def reasons(self, row: _Row) -> list[str]:
        return [] if row.duplicate else self._judged.decided.reasons[row.batch]

    def hits(self, row: _Row) -> list[str]:
        """Ids of the rules that hit, in rule order."""
        if row.duplicate:
            return []
        decided = self._judged.decided
        words = decided.live[row.batch].tolist()
        shadow = set(decided.shadow[row.batch]) if decided.shadow else set()
        return [
            rule.id
            for i, rule in enumerate(self._plan.rules)
            if (rule.id in shadow if rule.shadow else words[i // 64] >> i % 64 & 1)
        ]

    def all_hits(self) -> frozenset[str]:
        return frozenset(rule for row in self.rows.values() for rule in self.hits(row))

    def value(self, row: _Row, name: str) -> Any:
        """A column's value: Decimal for decimals, None for NULL."""
        if row.duplicate:
            return None
        column = self._judged.batch.columns[name]
        if column.valid is not None and not column.valid[row.batch]:
            return None
        value = column.values[row.batch]
        value = value.item() if isinstance(value, np.generic) else value
        return Decimal(value).scaleb(-column.type.scale) if column.type.kind is Kind.DECIMAL else value

    def shown(self, name: str, value: Any) -> str:
        if value is None:
            return _NULL
        kind = self._judged.batch.columns[name].type.kind
        if kind is Kind.TIMESTAMP:
            return time_text(value)
        return str(value).lower() if kind is Kind.BOOL else str(value)
