"""Sequence patterns by brute force: all ways to match, the preferred one first, by going back and forth over the rows.

A pattern is a tuple: ("var", name), ("seq", parts), ("alt", options), ("rep", part, least, most or None, greedy),
("gap", patience, absent names, names that the first row must not be, part). Patience: "strict", "relaxed", "any".
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


class _State(NamedTuple):
    at: int
    taken: Taken
    gap: tuple[str, tuple[str, ...], tuple[str, ...]] = GAPLESS


def ways(pattern: Any, start: int, stop: int, fits: Fits) -> Iterator[Found]:
    """All matches that begin with row `start` and end before row `stop`, the preferred one first."""
    for state in _ways(pattern, _State(start, ()), start, stop, fits):
        yield Found(start, state.at, state.taken)


def _ways(node: Any, state: _State, start: int, stop: int, fits: Fits) -> Iterator[_State]:
    kind, *rest = node
    if kind == "var":
        yield from _rows(rest[0], state, start, stop, fits)
    elif kind == "seq":
        yield from _series(rest[0], state, start, stop, fits)
    elif kind == "alt":
        for option in rest[0]:
            yield from _ways(option, state, start, stop, fits)
    elif kind == "rep":
        yield from _repeat(rest, 0, state, start, stop, fits)
    else:
        patience, absent, first, part = rest
        yield from _ways(part, state._replace(gap=(patience, tuple(absent), tuple(first))), start, stop, fits)


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


def _series(parts: Sequence[Any], state: _State, start: int, stop: int, fits: Fits) -> Iterator[_State]:
    if not parts:
        yield state
        return
    for after in _ways(parts[0], state, start, stop, fits):
        yield from _series(parts[1:], after, start, stop, fits)


def _repeat(node: Any, done: int, state: _State, start: int, stop: int, fits: Fits) -> Iterator[_State]:
    part, least, most, greedy = node

    def again() -> Iterator[_State]:
        if most is not None and done == most:
            return
        for after in _ways(part, state, start, stop, fits):
            if after.taken == state.taken and done >= least:
                yield after  # an iteration of no row ends the loop
            else:
                yield from _repeat(node, done + 1, after, start, stop, fits)

    if done < least:
        yield from again()
    elif greedy:
        yield from again()
        yield state
    else:
        yield state
        yield from again()


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
