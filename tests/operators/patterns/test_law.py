"""The matcher against brute force: random patterns over random rows, states written and read between any two."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.patterns.matcher import KeyRuns, Match, Matcher, Row
from operators.patterns.nfa import compile_pattern
from operators.patterns.slots import ROW_NUMBER, Slot, SlotKind, value_of
from operators.patterns.spec import Skip, SkipKind
from operators.patterns.tree import Choice, Gap, Gapped, Patience, Pattern, Repeat, Series, Variable, is_gapped
from tests.operators.samples import examples, type_of
from tests.oracle.patterns import Found, Taken, match_all

NAMES = ("A", "B", "C")
SKIPS = {"past_last": SkipKind.PAST_LAST, "next_row": SkipKind.NEXT_ROW, "no_skip": SkipKind.NO_SKIP}
counts = st.sampled_from([(0, None), (1, None), (0, 1), (2, 2), (1, 3), (2, None), (0, 2)])
leaves = st.sampled_from([("var", name) for name in NAMES])


def larger(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(parts, max_size=3).map(lambda some: ("seq", some)),
        st.lists(parts, min_size=2, max_size=3).map(lambda some: ("alt", some)),
        st.tuples(parts, counts, st.booleans()).map(lambda one: ("rep", one[0], *one[1], one[2])),
    )


def with_gaps(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.lists(st.sampled_from(NAMES), max_size=1)
    gaps = st.tuples(st.sampled_from(["strict", "relaxed", "any"]), names, names, parts)
    return st.one_of(larger(parts), gaps.map(lambda one: ("gap", *one)), gaps.map(lambda one: ("gap", *one)))


strict = st.recursive(leaves, larger, max_leaves=6)
gapped = st.recursive(leaves, with_gaps, max_leaves=5)
rows = st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), st.integers(0, 3), st.integers(0, 2)), max_size=10)


def tree(node: Any) -> Pattern:
    kind, *rest = node
    match kind:
        case "var":
            return Variable(rest[0])
        case "seq":
            return Series(tuple(map(tree, rest[0])))
        case "alt":
            return Choice(tuple(map(tree, rest[0])))
        case "rep":
            return Repeat(tree(rest[0]), rest[1], rest[2], rest[3])
        case _:
            patience = Patience[rest[0].upper()]
            return Gapped(Gap(patience, tuple(rest[1]), tuple(rest[2])), tree(rest[3]))


def matcher_of(pattern: Pattern, skip: str, within: int, to: str, asks: bool) -> Matcher:
    """With `asks`, a B must be larger than the last A, if there is one, and C than the sum of all rows before."""
    program = compile_pattern(pattern)
    number = {name: i for i, name in enumerate(program.variables)}
    bit = {name: 1 << number[name] if name in number else 0 for name in NAMES}
    int64 = type_of("int64")
    slots = [
        Slot("a", SlotKind.LAST, bit["A"], 0, int64),
        Slot("sum", SlotKind.SUM, (1 << len(number)) - 1, 0, int64),
        Slot("to", SlotKind.FIRST if skip == "first" else SlotKind.LAST, bit.get(to, 0), ROW_NUMBER, int64),
    ]

    def b(values: list[Any], row: Row) -> bool:
        last = value_of(slots[0], values[0])
        return last is None or row.values[0] > last

    def c(values: list[Any], row: Row) -> bool:
        return bool(row.values[0] * 2 > value_of(slots[1], values[1]))

    decides = {number[name]: one for name, one in (("B", b), ("C", c)) if asks and name in number}
    kind = SKIPS.get(skip, SkipKind.TO_ROW)
    return Matcher(
        program, slots, decides, asked=[0, 1] if asks else [], skip=Skip(kind, 2), within=within, runs_max=100_000,
        ordered=not is_gapped(pattern), keeps_trail=True,
    )  # fmt: skip


def found_by(matcher: Matcher, given_rows: Any, times: list[int]) -> list[Match]:
    number = {name: i for i, name in enumerate(matcher.program.variables)}
    state, found = KeyRuns(), []
    decode = msgspec.msgpack.Decoder(KeyRuns).decode
    for (names, value, _), time in zip(given_rows, times, strict=True):
        bits = sum(1 << number[name] for name in names if name in number)
        said, dropped = matcher.row(state, Row(time, bits, (value,)))
        assert dropped == 0
        found += said
        state = decode(msgspec.msgpack.encode(state))
    return found + matcher.finish(state)


def compare(pattern: Any, given_rows: Any, skip: str, within: int, to: str, asks: bool) -> None:
    times: list[int] = []
    for _, _, step in given_rows:
        times.append((times[-1] if times else 0) + step)

    def fits(name: str, row: int, taken: Taken) -> bool:
        names, value, _ = given_rows[row]
        if name not in names:
            return False
        if asks and name == "B":
            last = next((given_rows[at][1] for at, one in reversed(taken) if one == "A"), None)
            return last is None or value > last
        if asks and name == "C":
            return bool(value > sum(given_rows[at][1] for at, _ in taken))
        return True

    made = tree(pattern)
    wanted = match_all(pattern, times, fits, skip=skip, within=within, to=to, has_gaps=is_gapped(made))
    matcher = matcher_of(made, skip, within, to, asks)
    found = [
        Found(one.start, one.end, tuple((row, _name(matcher, place)) for row, place in one.trail))
        for one in found_by(matcher, given_rows, times)
    ]
    if skip == "no_skip":
        wanted, found = [one for one in wanted if one.taken], [one for one in found if one.taken]
        assert sorted(set(found)) == sorted(set(wanted))
    else:
        assert found == wanted


def _name(matcher: Matcher, place: int) -> str:
    return matcher.program.variables[matcher.program.takes[place].variable]


def test_a_beginning_that_can_be_taken_in_two_ways_is_one_run() -> None:
    made = tree(("seq", [("alt", [("var", "A"), ("var", "B")]), ("var", "C")]))
    state = KeyRuns()
    Matcher(compile_pattern(made)).row(state, Row(0, 0b11, ()))
    assert [len(attempt.runs) for attempt in state.attempts] == [1]


skips = st.sampled_from(["past_last", "past_last", "past_last", "next_row", "first", "last", "no_skip"])


@pytest.mark.timeout(300)
@example(("rep", ("alt", [("seq", []), ("var", "A")]), 0, None, True), [({"A"}, 0, 1)] * 2, "past_last", 0, "A", False)
@example(("seq", [("var", "C"), ("var", "A")]), [({"C"}, 0, 1), ({"A"}, 0, 1)], "past_last", 0, "A", True)
@example(
    ("seq", [("var", "A"), ("rep", ("var", "B"), 1, None, True), ("rep", ("var", "C"), 1, None, True)]),
    [({"A"}, 0, 1), ({"B"}, 0, 1), ({"C"}, 0, 1), ({"A", "C"}, 0, 1), ({"A", "B"}, 0, 1), ({"B"}, 0, 1), ({"C"}, 0, 1)],
    "past_last", 0, "A", False,
)  # fmt: skip
@given(strict, rows, skips, st.sampled_from([0, 0, 3]), st.sampled_from(NAMES), st.booleans())
@examples(250)
def test_strict_patterns(pattern: Any, some: Any, skip: str, within: int, to: str, asks: bool) -> None:
    compare(pattern, some, skip, within, to, asks)


@pytest.mark.timeout(300)
@given(gapped, rows, skips, st.sampled_from([0, 0, 3]), st.sampled_from(NAMES), st.booleans())
@examples(250)
def test_patterns_with_gaps(pattern: Any, some: Any, skip: str, within: int, to: str, asks: bool) -> None:
    compare(pattern, some, skip, within, to, asks)


def any_of(*options: Any) -> Any:
    return ("alt", list(options))


def some(*parts: Any, least: int = 1, most: int | None = None, greedy: bool = True) -> Any:
    return ("rep", ("seq", list(parts)), least, most, greedy)


A, B, C = (("var", name) for name in NAMES)
# What Trino's program (IrRowPatternToProgramRewriter, Matcher) makes of them, by hand: an iteration of no row behind
# another leads nowhere. Python's re ends the loop with it, and finds CBA, BB and A.
EMPTY_ITERATIONS = {
    "CBAC": (
        "seq",
        [
            C,
            some(any_of(some(B, some(A, greedy=False), least=0, most=1), some(C, least=0, most=1, greedy=False))),
            some(B, least=0, greedy=False),
        ],
    ),
    "BBCBCC": some(
        any_of(some(B, least=0, most=2), some(B, B, most=2, greedy=False), some(C, least=0, greedy=False)), least=0
    ),
}


@pytest.mark.parametrize(("taken", "pattern"), EMPTY_ITERATIONS.items(), ids=EMPTY_ITERATIONS)
def test_an_iteration_of_no_row_behind_others_leads_nowhere(taken: str, pattern: Any) -> None:
    given_rows = [({name}, 0, 1) for name in taken]
    compare(pattern, given_rows, "past_last", 0, "", False)
    (first, *_) = found_by(matcher_of(tree(pattern), "past_last", 0, "", False), given_rows, list(range(len(taken))))
    assert (first.start, first.end) == (0, len(taken))
