"""Sequence patterns by brute force: all ways to match, the preferred one first, by going back and forth over the rows.

A pattern is a tuple: ("var", name), ("seq", parts), ("alt", options), ("rep", part, least, most or None, greedy),
("gap", patience, absent names, names that the first row must not be, part). Patience: "strict", "relaxed", "any".

No way passes one place of the pattern twice between two rows: as Trino has it, an iteration of no row behind another
leads nowhere, where backtracking engines let it end the loop. A copy of a counted repetition is a place of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

Taken = tuple[tuple[int, str], ...]
"""(row, variable) of each row of a match so far."""
Fits = Callable[[str, int, Taken], bool]
"""Whether a row may be of a variable behind the rows taken so far."""
GAPLESS = ("strict", (), ())


class Found(NamedTuple):
    start: int
    end: int
    taken: Taken


Place = tuple[int, ...]


class _State(NamedTuple):
    """`passed`: places, with their gaps, since the last row."""

    at: int
    taken: Taken
    gap: tuple[str, tuple[str, ...], tuple[str, ...]] = GAPLESS
    passed: frozenset[Any] = frozenset()

    def past(self, place: Place) -> _State | None:
        """The state behind a place; None if it was there before."""
        if (place, self.gap) in self.passed:
            return None
        return self._replace(passed=self.passed | {(place, self.gap)})


def ways(pattern: Any, start: int, stop: int, fits: Fits) -> Iterator[Found]:
    """All matches that begin with row `start` and end before row `stop`, the preferred one first."""
    for state in _ways(pattern, (), _State(start, ()), start, stop, fits):
        yield Found(start, state.at, state.taken)


def _ways(node: Any, place: Place, before: _State, start: int, stop: int, fits: Fits) -> Iterator[_State]:
    state = before.past(place)
    if state is None:
        return
    kind, *rest = node
    if kind == "var":
        yield from _rows(rest[0], state, start, stop, fits)
    elif kind == "seq":
        yield from _series(rest[0], 0, place, state, start, stop, fits)
    elif kind == "alt":
        for number, option in enumerate(rest[0]):
            yield from _ways(option, (*place, number), state, start, stop, fits)
    elif kind == "rep":
        yield from _repeat(rest, 0, place, state, start, stop, fits)
    else:
        patience, absent, first, part = rest
        gapped = state._replace(gap=(patience, tuple(absent), tuple(first)))
        yield from _ways(part, (*place, 0), gapped, start, stop, fits)


def _rows(name: str, state: _State, start: int, stop: int, fits: Fits) -> Iterator[_State]:
    patience, absent, first = state.gap if state.taken else GAPLESS
    for row in range(state.at, stop):
        unwanted = absent + (first if row == state.at else ())
        if any(fits(one, row, state.taken) for one in unwanted):
            return
        if fits(name, row, state.taken):
            yield _State(row + 1, (*state.taken, (row, name)))
            if patience == "relaxed":
                return
        if patience == "strict":
            return


def _series(
    parts: Sequence[Any], number: int, place: Place, state: _State, start: int, stop: int, fits: Fits
) -> Iterator[_State]:
    if number == len(parts):
        yield state
        return
    for after in _ways(parts[number], (*place, number), state, start, stop, fits):
        yield from _series(parts, number + 1, place, after, start, stop, fits)


def _repeat(node: Any, done: int, place: Place, before: _State, start: int, stop: int, fits: Fits) -> Iterator[_State]:
    """The copies of a part are places 0, 1, ..., of which an endless one goes over the last again and again; where it
    may end are places -1, -2, ...
    """
    part, least, most, greedy = node
    copy, end = (done, done) if most is not None else (min(done, max(least - 1, 0)), min(done, max(least, 1)))

    def again(state: _State) -> Iterator[_State]:
        for after in _ways(part, (*place, copy), state, start, stop, fits):
            yield from _repeat(node, done + 1, place, after, start, stop, fits)

    if done < least:
        yield from again(before)
    elif done == most:
        yield before
    elif (state := before.past((*place, -1 - end))) is not None:
        if not greedy:
            yield state
        yield from again(state)
        if greedy:
            yield state


def match_all(
    pattern: Any, times: Sequence[int], fits: Fits, *, skip: str = "past_last", within: int = 0, to: str = "",
    has_gaps: bool = False,
) -> list[Found]:  # fmt: skip
    """All matches of a key's rows, in the order of telling. `skip`: past_last, next_row, first, last, no_skip."""
    size = len(times)

    def stop(start: int) -> int:
        late = (row for row in range(start, size) if within and times[row] - times[start] >= within)
        return next(late, size)

    def after(found: Found) -> int:
        rows = [row for row, name in found.taken if name == to]
        target = {"past_last": found.end, "next_row": found.start + 1}.get(skip)
        if target is None:
            target = (rows[0] if skip == "first" else rows[-1]) if rows else found.start + 1
        return max(target, found.start + 1)

    if skip == "no_skip":
        every = {found for start in range(size) for found in ways(pattern, start, stop(start), fits)}
        return sorted(every, key=lambda found: (found.end, found.start, found.taken))
    told: list[Found] = []
    if has_gaps:
        best = []
        for start in range(size):
            found = list(ways(pattern, start, stop(start), fits))
            if found:
                best.append(min(found, key=lambda one: one.end))
        while best:
            first = min(best, key=lambda one: (one.end, one.start))
            best.remove(first)
            told.append(first)
            best = [one for one in best if not first.start < one.start < after(first)]
        return told
    start = 0
    while start < size:
        preferred = next(ways(pattern, start, stop(start), fits), None)
        if preferred is not None:
            told.append(preferred)
        start = start + 1 if preferred is None else after(preferred)
    return told
