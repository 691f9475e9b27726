"""What the patterns of one key see of a row: a bit a column, and which bits can matter to one of them.

fits, where: bool columns --(packed, once for all patterns)--> bits of a row, and whether a match may begin with it
bits & wants     a run may take the row, or break at it; `wants` of a key lies beside its runs, so that rows that
                 mean nothing to them are told without reading them
"""

from __future__ import annotations

__all__ = ["ANY", "BRITTLE", "COLUMNS_MAX", "Sight", "columns_of", "packed"]

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.batch import Batch
from operators.patterns.matcher import KeyRuns, Match, Row, Run
from operators.patterns.rows import matcher_of, true_rows
from operators.patterns.spec import PatternSpec
from operators.patterns.tree import Patience
from operators.tables import LookupTable

COLUMNS_MAX: Final = 61
"""Columns that one operator packs; a pattern has 60 variables and one `where` at most."""
ANY: Final = 1 << 61
"""Set in every row."""
BRITTLE: Final = 1 << 62
"""Of what a key waits for: a row without one of its other bits ends all its runs; else such a row changes nothing."""
_KNOWN_MAX: Final = 1_024
_BITS: Final = 1 << np.arange(COLUMNS_MAX)


def columns_of(spec: PatternSpec) -> tuple[str, ...]:
    """The bool columns that say what a row may be."""
    return tuple(dict.fromkeys([*spec.fits.values(), *([spec.counts] if spec.counts else [])]))


def packed(batch: Batch, columns: Sequence[str], rows: npt.NDArray[np.intp] | slice) -> npt.NDArray[np.int64]:
    """Of each of `rows`: bit i, whether column i is true, and `ANY`."""
    if not columns:
        return np.full(batch.size, ANY)[rows]
    marks = [true_rows(batch.columns[name]) for name in columns]
    bits: npt.NDArray[np.int64] = _BITS[: len(marks)].dot(np.concatenate(marks).reshape(len(marks), -1))
    return bits[rows] | ANY


class Sight:
    """One pattern's. `where`: the bit of rows that it sees; `begins`: those of rows that may begin a match; `openers`:
    those that say what `opens` gives, and whether it may be asked.
    """

    def __init__(self, spec: PatternSpec, columns: Sequence[str], lookups: Mapping[str, LookupTable]) -> None:
        self.spec, self.matcher = spec, matcher_of(spec, lookups)
        number = {name: 1 << i for i, name in enumerate(columns)}
        variables = self.matcher.program.variables
        self._bits = [number[spec.fits[name]] if name in spec.fits else ANY for name in variables]
        self.numbers_matches = spec.numbers_matches
        self.where = number[spec.counts] if spec.counts else ANY
        starting = self._union(self.matcher.starting)
        self.begins = self.where if starting & ANY else starting
        self.openers = self.where | starting
        self._known = 0
        for bit in self._bits:
            self._known |= bit
        self._fits = lru_cache(_KNOWN_MAX)(self._fits_of)
        self._wants: dict[tuple[int, int, bool], tuple[int, bool]] = {}

    def _union(self, variables: int) -> int:
        """The bits of a set of variables."""
        found = 0
        for i, bit in enumerate(self._bits):
            if variables >> i & 1:
                found |= bit
        return found

    def row(self, state: KeyRuns, time: int, bits: int, values: Sequence[Any]) -> tuple[list[Match], int]:
        """As `Matcher.row`."""
        return self.matcher.row(state, Row(time, self._fits(bits & self._known), values))

    def keeps(self, state: KeyRuns) -> bool:
        """Whether there is anything to remember of a key: else its next row is its first one."""
        return bool(state.attempts) or (state.matches > 0 and self.numbers_matches)

    def opens(self, bits: int) -> Sequence[Run]:
        """The runs that a key has after a row of `bits` if it had none before it; none: there is more to ask."""
        opening = self.matcher.opening(self._fits(bits & self._known) & self.matcher.starting)
        return opening.runs if opening is not None else ()

    def _fits_of(self, bits: int) -> int:
        """The variables that a row may be of."""
        return sum(1 << i for i, bit in enumerate(self._bits) if bits & bit)

    def wants(self, state: KeyRuns) -> int:
        """What a row must have one bit of that can mean anything to the runs of a state; 0: there are none."""
        found, brittle, patient = 0, False, False
        for attempt in state.attempts:
            if attempt.found is not None:
                return self.where
            for run in attempt.runs:
                bits, is_brittle = self._wants.get((run.place, run.gap, run.waited)) or self._run_wants(run)
                found |= bits
                if is_brittle:
                    brittle = True
                else:
                    patient = True
        if not brittle:
            return self.where if found & ANY else found
        if patient or self.where != ANY or self.numbers_matches:
            return self.where
        return found | BRITTLE

    def _run_wants(self, run: Run) -> tuple[int, bool]:
        """The bits of rows that mean something to a run, and whether any other row ends it."""
        program, forbidden = self.matcher.program, self.matcher.forbidden(run)
        take, gap = program.takes[run.place], program.gaps[run.gap]
        bits = 0 if take.end else self._bits[take.variable]
        if run.gap:
            bits |= self._union(forbidden)
            if gap.first and not run.waited:
                bits = ANY  # the next row is the gap's first one, whatever it is
        known = self._wants[run.place, run.gap, run.waited] = (bits, take.end or gap.patience == Patience.STRICT)
        return known
