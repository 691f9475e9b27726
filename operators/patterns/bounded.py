"""A pattern over tables that end: rows in order, then `finish`, as SQL's MATCH_RECOGNIZE has it.

What the operator of a stage cannot say row by row can be said here: a match of no row, one that ends with a greedy
quantifier, ALL ROWS PER MATCH.
"""

from __future__ import annotations

__all__ = ["BoundedPattern", "Line"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from operators.batch import Batch
from operators.event_values import python_values
from operators.expressions.program import Program as Expressions
from operators.patterns.matcher import KeyRuns, Match, Row
from operators.patterns.rows import fitting, matcher_of, plain_values, values_batch
from operators.patterns.slots import bring
from operators.patterns.spec import PatternSpec
from operators.tables import LookupTable


class Line(NamedTuple):
    """A line of the result. `row`: number of its row among those of its key (ALL ROWS PER MATCH; of an empty match, the
    row it was found at), of ONE ROW PER MATCH that of the match's first row. `measures` by name, as Python values.
    """

    key: str
    row: int
    measures: dict[str, Any]


class BoundedPattern:
    """Computes one `PatternSpec`. `all_rows`: ALL ROWS PER MATCH. `states`: of each key, plain data.

    `rows`: values of the rows that are kept for ALL ROWS PER MATCH.
    """

    def __init__(
        self, spec: PatternSpec, lookups: Mapping[str, LookupTable] | None = None, *, all_rows: bool = False
    ) -> None:
        self.spec, self._all = spec, all_rows
        self.matcher = matcher_of(spec, lookups or {}, keeps_trail=all_rows)
        self._measures = Expressions(list(spec.measures), lookups or {})
        self.states: dict[str, KeyRuns] = {}
        self.rows: dict[str, list[Sequence[Any]]] = {}

    def process(self, batch: Batch) -> list[Line]:
        """The lines that rows in order show."""
        spec = self.spec
        keys = batch.columns[spec.key].values.tolist()
        fits = fitting(spec, self.matcher.program.variables, batch).tolist()
        every = list(range(batch.size))
        values = list(zip(*(plain_values(batch.columns[name], every) for name in spec.columns), strict=True))
        found: list[Line] = []
        for row, (key, time) in enumerate(zip(keys, batch.event_time.tolist(), strict=True)):
            mine = values[row] if values else ()
            if self._all:
                self.rows.setdefault(key, []).append(mine)
            matches, _ = self.matcher.row(self.states.setdefault(key, KeyRuns()), Row(time, fits[row], mine))
            found += self._lines(key, matches)
        return found

    def finish(self) -> list[Line]:
        """The lines that the end of the table shows, by key as they first came."""
        return [line for key, state in self.states.items() for line in self._lines(key, self.matcher.finish(state))]

    def _lines(self, key: str, matches: Sequence[Match]) -> Iterator[Line]:
        shown = [one for match in matches for one in (self._shown(key, match) if self._all else [match])]
        if not shown:
            return
        said = self._measures.run(values_batch(self.spec.slots, shown, np.zeros(len(shown), np.int64)))
        columns = {name: python_values(column) for name, column in said.items()}
        for i, match in enumerate(shown):
            yield Line(key, match.start, {name: values[i] for name, values in columns.items()})

    def _shown(self, key: str, match: Match) -> Iterator[Match]:
        """What a match is as each of its rows comes; `start` is then the row's number."""
        program, rows = self.matcher.program, self.rows[key]
        if not match.trail:
            yield match
        values = self.matcher.empty
        for number, place in match.trail:
            take = program.takes[place]
            name = program.variables[take.variable]
            values = bring(self.matcher.counting[take.variable], values, rows[number], name=name, number=number)
            if not take.hidden:
                yield match._replace(start=number, values=values)
