"""The matcher: what one key's rows, one after the other, make of its runs. Pure: a state, a row -> matches.

    row -> 1. runs whose WITHIN is over go
           2. each attempt's runs, the preferred one first, take the row (or pass it over, where there is a gap)
              a run that completes cuts off those less preferred than it; those preferred to it go on
           3. an attempt begins at the row, if it can
           4. an attempt that is complete and has no preferred run left is a match; what AFTER MATCH SKIP says goes

An attempt is all runs that began with one row. Without gaps an attempt waits until those before it have matched or
failed (the leftmost match counts, as in SQL); with gaps its first complete run is a match at once, as in CEP. AFTER
MATCH NO SKIP has no preference at all: every way to match is one.

Bounds: two runs of an attempt in the same place, of which no condition can tell the values apart, are one (the
preferred one stays); so are two of different attempts, where whatever the later one finds would be skipped. Beyond
`runs_max` runs a key the least preferred run of the oldest attempt goes.
"""

from __future__ import annotations

__all__ = ["OPENINGS_MAX", "Attempt", "KeyRuns", "Match", "Matcher", "Opening", "Row", "Run"]

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from operators.patterns.nfa import DONE, Program, Way
from operators.patterns.slots import Slot, begin, bring, counting, value_of
from operators.patterns.spec import Skip, SkipKind
from operators.patterns.tree import Patience

OPENINGS_MAX: Final = 1_024
"""So many ways to begin are kept at hand."""

Condition = Callable[[list[Any], "Row"], bool]
"""Whether a variable's condition holds of the slots' values with the row brought in; asked if the row's bit is set."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row: `fits`: bit i is set if it may be of variable i; `values`: of the columns that slots read; `at`: in the
    batch.
    """

    time: int
    fits: int
    values: Sequence[Any]
    at: int = 0


class Run(msgspec.Struct, array_like=True, gc=False):
    """A run waits in `place` (of `Program.takes`); the gap before it has begun if `waited`. `trail`: row and take, of
    each row, if they are kept.
    """

    place: int
    gap: int
    waited: bool
    values: list[Any]
    trail: list[tuple[int, int]]


class Attempt(msgspec.Struct, array_like=True, gc=False):
    """All runs that began with row number `start`; `found`: the best that is complete: its end, and a run."""

    start: int
    time: int
    runs: list[Run]
    found: tuple[int, Run] | None = None


class KeyRuns(msgspec.Struct, array_like=True, gc=False):
    """A key's state. `rows`: how many came while it was kept; `matches`: how many there were."""

    rows: int = 0
    matches: int = 0
    attempts: list[Attempt] = []


class Match(NamedTuple):
    """A match of rows start..end (exclusive, numbers in the key); `at`: the row that showed it."""

    number: int
    start: int
    end: int
    values: list[Any]
    trail: list[tuple[int, int]]


class Opening(NamedTuple):
    """How an attempt begins where the variables that a row may be of are all there is to ask. `takes`: variable and
    place of each take of the row; `runs`: those that the attempt has then, if nothing of the row is kept in them.
    """

    takes: Sequence[tuple[int, int]]
    runs: Sequence[Run]


class Matcher:
    """One pattern. `decides`: number of a variable -> its condition, where bits of `Row.fits` do not say it all; it
    reads the values of the slots `asked`. `keeps_trail`: whether matches say which rows they took.
    """

    def __init__(
        self, program: Program, slots: Sequence[Slot] = (), decides: Mapping[int, Condition] | None = None, *,
        asked: Sequence[int] = (), skip: Skip | None = None, within: int = 0, runs_max: int = 64,
        ordered: bool = True, keeps_trail: bool = False,
    ) -> None:  # fmt: skip
        self.program, self.slots, self.decides = program, slots, decides or {}
        self._asked, self.within, self._runs_max = asked, within, runs_max
        self.skip = skip or Skip()
        self.every = self.skip.kind is SkipKind.NO_SKIP
        self.ordered = ordered and not self.every
        self.keeps_trail = keeps_trail or self.every
        self.shares = self.skip.kind is SkipKind.PAST_LAST and not within
        self.empty = begin(slots)
        self.counting = [counting(slots, variable) for variable in range(len(program.variables))]
        number = {name: i for i, name in enumerate(program.variables)}
        self._absent = [_bits(gap.absent, number) for gap in program.gaps]
        self._first = [_bits(gap.first, number) for gap in program.gaps]
        self.starting = 0
        for place in {place for place, _ in (*program.starts, *program.anchored) if place != DONE}:
            if not program.takes[place].end:
                self.starting |= 1 << program.takes[place].variable
        self._may_be_empty = program.may_be_empty
        self.opening = lru_cache(OPENINGS_MAX)(self._opening_of)

    def forbidden(self, run: Run) -> int:
        """The variables of which a row must not be that comes in the run's gap."""
        return self._absent[run.gap] | (0 if run.waited else self._first[run.gap])

    def told(self, run: Run) -> tuple[Any, ...]:
        """What tells a run from others in its place: what conditions ask of it; if every way counts, its rows."""
        return tuple(run.trail) if self.every else tuple([repr(run.values[i]) for i in self._asked])

    def row(self, state: KeyRuns, row: Row) -> tuple[list[Match], int]:
        """The matches that a row shows, in their order, and how many runs went for want of room; `state` is changed."""
        if not state.attempts and (opening := self.opening(row.fits & self.starting)) is not None:
            state.attempts = [self._opened(opening, state.rows, row)]
            state.rows += 1
            return [], 0
        step = _Step(self, state, row)
        for attempt in state.attempts:
            if self.within and row.time - attempt.time >= self.within:
                attempt.runs = []
            else:
                step.advance(attempt)
        if row.fits & self.starting or self._may_be_empty:
            step.begin()
        state.rows += 1
        dropped = self._bound(state)
        self._settle(state, step.said)
        return step.said, dropped

    def _opening_of(self, fits: int) -> Opening | None:
        """How an attempt begins with a row of the variables `fits`; None: there is more to ask."""
        program, takes = self.program, self.program.takes
        if program.starts != program.anchored or self._may_be_empty:
            return None
        places = [place for place, _ in program.starts if not takes[place].end]
        taken = [(takes[place].variable, place) for place in places if fits >> takes[place].variable & 1]
        ways = [way for _, place in taken for way in program.follow[place]]
        is_plain = all(place != DONE for place, _ in ways) and 0 < len(set(ways)) == len(ways) <= self._runs_max
        if not is_plain or any(variable in self.decides for variable, _ in taken):
            return None
        is_kept = self.keeps_trail or any(self.counting[variable] for variable, _ in taken)
        return Opening(taken, () if is_kept else [Run(place, gap, False, self.empty, []) for place, gap in ways])

    def _opened(self, opening: Opening, number: int, row: Row) -> Attempt:
        if opening.runs:
            return Attempt(number, row.time, [*opening.runs])
        runs: list[Run] = []
        for variable, place in opening.takes:
            name = self.program.variables[variable]
            values = bring(self.counting[variable], self.empty, row.values, name=name, number=number)
            for on, gap in self.program.follow[place]:
                runs.append(Run(on, gap, False, values, [(number, place)] if self.keeps_trail else []))
        return Attempt(number, row.time, runs)

    def timed_out(self, state: KeyRuns, time: int) -> list[Attempt]:
        """Attempts without a match of which WITHIN is over at `time`: they go."""
        over = [one for one in state.attempts if one.runs and one.found is None and time - one.time >= self.within]
        if over:
            gone = {one.start for one in over}
            state.attempts = [one for one in state.attempts if one.start not in gone]
        return over

    def finish(self, state: KeyRuns) -> list[Match]:
        """The matches that the end of the input shows: nothing is waited for any more."""
        step = _Step(self, state, Row(0, 0, ()))
        for attempt in state.attempts:
            runs, attempt.runs = attempt.runs, []
            for run in runs:
                ends = self.program.takes[run.place].end
                ends = ends and any(place == DONE for place, _ in self.program.follow[run.place])
                if ends and step.complete(attempt, run, state.rows):
                    break
        self._settle(state, step.said)
        state.attempts = []
        return step.said

    def _settle(self, state: KeyRuns, said: list[Match]) -> None:
        """Attempts that are decided become matches, or go."""
        at = 0
        while at < len(state.attempts):
            attempt = state.attempts[at]
            if attempt.runs:
                if self.ordered:
                    return
                at += 1
                continue
            del state.attempts[at]
            if attempt.found is None:
                continue
            end, run = attempt.found
            state.matches += 1
            said.append(Match(state.matches, attempt.start, end, run.values, run.trail))
            after = self._after(attempt, end, run)
            state.attempts = [one for one in state.attempts if not attempt.start < one.start < after]

    def _after(self, attempt: Attempt, end: int, run: Run) -> int:
        """The first row that a later match may begin with. A row that is not there, or is the match's own first one,
        is none to go on from: the next one is.
        """
        if self.skip.kind is SkipKind.PAST_LAST:
            return max(end, attempt.start + 1)
        if self.skip.kind is SkipKind.NEXT_ROW:
            return attempt.start + 1
        target = value_of(self.slots[self.skip.slot], run.values[self.skip.slot])
        return attempt.start + 1 if target is None else max(target, attempt.start + 1)

    def _bound(self, state: KeyRuns) -> int:
        """No more than `runs_max` runs; how many went."""
        over = gone = max(sum(len(attempt.runs) for attempt in state.attempts) - self._runs_max, 0)
        for attempt in state.attempts:
            while over > 0 and attempt.runs:
                attempt.runs.pop()
                over -= 1
        return gone


def _bits(names: Sequence[str], number: Mapping[str, int]) -> int:
    return sum(1 << number[name] for name in set(names))


class _Step:
    """One row: what the runs of a key make of it. `said`: matches so far; `seen`: runs that others like them are one
    with.
    """

    def __init__(self, matcher: Matcher, state: KeyRuns, row: Row) -> None:
        self._matcher, self._program = matcher, matcher.program
        self._state, self._row, self._number = state, row, state.rows
        self.said: list[Match] = []
        self._seen: set[tuple[Any, ...]] = set()
        # A match that is found, and may yet be told, would take an earlier attempt away and leave a later one.
        self._shares = matcher.shares and all(attempt.found is None for attempt in state.attempts)

    def begin(self) -> None:
        """An attempt that begins with the row, if one can."""
        ways = self._program.starts if self._number else self._program.anchored
        attempt = Attempt(self._number, self._row.time, [])
        before = Run(-1, 0, False, self._matcher.empty, [])
        shared, self._seen = self._seen, set()
        self._go(attempt, before, ways, self._number)
        self._seen = shared
        if attempt.runs:
            self.advance(attempt, is_first=True)
        if attempt.runs or attempt.found is not None:
            self._state.attempts.append(attempt)

    def advance(self, attempt: Attempt, *, is_first: bool = False) -> None:
        """The attempt's runs take the row, go on waiting, or fail; `is_first`: there is no gap before its first row."""
        if not self._shares:
            self._seen = set()
        runs, attempt.runs = attempt.runs, []
        for run in runs:
            take = self._program.takes[run.place]
            if take.end:
                continue
            gap = 0 if is_first else run.gap
            if gap and self._is_broken(run):
                continue
            values = self._fits(take.variable, run)
            if values is not None:
                trail = [*run.trail, (self._number, run.place)] if self._matcher.keeps_trail else run.trail
                after = Run(-1, 0, False, values, trail)
                if self._go(attempt, after, self._program.follow[run.place], self._number + 1):
                    return
            patience = self._program.gaps[gap].patience
            if patience == Patience.ANY or (patience == Patience.RELAXED and values is None):
                self._wait(attempt, Run(run.place, gap, True, run.values, run.trail))

    def _is_broken(self, run: Run) -> bool:
        """Whether the row is one that the gap must not have."""
        fits = self._row.fits & self._matcher.forbidden(run)
        while fits:
            if self._fits((fits & -fits).bit_length() - 1, run) is not None:
                return True
            fits &= fits - 1
        return False

    def _fits(self, variable: int, run: Run) -> list[Any] | None:
        """The values with the row taken for a variable; None: it does not fit."""
        matcher, row = self._matcher, self._row
        if not row.fits >> variable & 1:
            return None
        name = self._program.variables[variable]
        values = bring(matcher.counting[variable], run.values, row.values, name=name, number=self._number)
        decide = matcher.decides.get(variable)
        return values if decide is None or decide(values, row) else None

    def _go(self, attempt: Attempt, run: Run, ways: Sequence[Way], end: int) -> bool:
        """All ways on from a row; whether one is complete, and no run less preferred counts."""
        for place, gap in ways:
            if place != DONE:
                self._wait(attempt, Run(place, gap, False, run.values, run.trail))
            elif self.complete(attempt, run, end):
                return True
        return False

    def _wait(self, attempt: Attempt, run: Run) -> None:
        key = (run.place, run.gap, run.waited, self._matcher.told(run))
        if key not in self._seen:
            self._seen.add(key)
            attempt.runs.append(run)

    def complete(self, attempt: Attempt, run: Run, end: int) -> bool:
        """A run has come to its end; whether those less preferred go."""
        if not self._matcher.every:
            attempt.found = (end, run)
            if not self._matcher.ordered:
                attempt.runs = []
            return True
        match = Match(self._state.matches + 1, attempt.start, end, run.values, run.trail)
        if all(match.trail != other.trail for other in self.said):
            self._state.matches += 1
            self.said.append(match)
        return False
