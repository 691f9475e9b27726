"""The law of timed results: what is said, and after which row, is what the oracle says, however batches are cut,
undone, restored or evicted. And while nothing is late, the order of arrival does not matter.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.timed import sessions
from operators.timed.spec import PENDING_MAX, TimedAggregate, TimedSpec, WindowKind
from tests.operators.samples import examples, type_of
from tests.operators.timed.harness import Row, Worker, absence, results, row, run, tick, window
from tests.oracle.timed import say_all

ROOM = 1_000
"""Of different values, in a smaller session."""

KEYS = ("a", "b", "c")


@st.composite
def rules(draw: Any) -> Any:
    kind = draw(st.sampled_from([*WindowKind, "absence"]))
    size = draw(st.integers(1, 12))
    lateness = draw(st.sampled_from([0, 0, 3, 10]))
    if kind == "absence":
        return absence(size)
    of = {} if draw(st.booleans()) else {"of": None, "aggregates": (TimedAggregate.COUNT,)}
    more = {"lateness": lateness, **of}
    if kind == "session":
        return window("session", size, **more)
    more["offset"] = draw(st.integers(-3, 20))
    if kind == "hop":
        return window("hop", size, draw(st.integers(1, size)), **more)
    if kind == "cumulate":
        every = draw(st.integers(1, 4))
        return window("cumulate", every * draw(st.integers(1, 4)), every, **more)
    return window("tumble", size, **more)


@st.composite
def histories(draw: Any, tasks: int = 2, back: int = 15) -> list[Row]:
    rows: list[Row] = []
    clock = dict.fromkeys(range(tasks), draw(st.sampled_from([0, 50, 1_000])))
    for number in range(draw(st.integers(0, 25))):
        task = draw(st.integers(0, tasks - 1))
        if rows and draw(st.integers(0, 9)) == 0:
            clock[task] += draw(st.integers(0, 30))
            if any(one["task"] == task and "tick" not in one for one in rows):
                rows.append(tick(clock[task], task))
            continue
        clock[task] += draw(st.sampled_from([0, 0, 1, 2, 5, 20]))
        rows.append(
            row(
                clock[task] - draw(st.integers(0, back)),
                draw(st.one_of(st.none(), st.integers(-5, 5))),
                draw(st.sampled_from([*KEYS, None])),
                task=task,
                id=f"r{number:02}",
                where=draw(st.sampled_from([True, True, True, False, None])),
                after=draw(st.booleans()),
                without=draw(st.sampled_from([True, False, None])),
            )
        )
    return rows


def wanted(rule: Any, disorder: int, rows: list[Row]) -> dict[int, list[tuple[Any, ...]]]:
    return {task: said for task, said in say_all(rule, disorder, rows) if said}


@given(rules(), st.integers(0, 12), histories(), st.sampled_from([1, 2, 3, 7, 0]))
@examples(250)
def test_it_says_what_the_oracle_says_however_batches_are_cut(
    rule: Any, disorder: int, rows: list[Row], cut: int
) -> None:
    assert run(rule, disorder, rows, cut) == wanted(rule, disorder, rows)


@given(rules(), st.integers(0, 12), histories(), st.sampled_from([1, 3]), st.booleans(), st.booleans(), st.booleans())
@examples(150)
def test_nothing_that_happens_between_batches_can_be_seen(
    rule: Any, disorder: int, rows: list[Row], cut: int, restore: bool, undo: bool, forget: bool
) -> None:
    said = run(rule, disorder, rows, cut, restore=restore, undo=undo, forget=forget)
    assert said == wanted(rule, disorder, rows)


@given(rules(), histories(tasks=1, back=0), st.integers(0, 10), st.randoms(use_true_random=False))
@examples(100)
def test_while_nothing_is_late_the_order_of_arrival_does_not_matter(
    rule: Any, rows: list[Row], disorder: int, random: Any
) -> None:
    """Each row comes up to `disorder` later than its time says; the last word on each window is the same."""
    rows = [one for one in rows if "tick" not in one]
    shuffled = sorted(rows, key=lambda one: (one["time"] + random.randint(0, disorder), one["id"]))
    end = tick(10_000_000)
    in_order = results(run(rule, disorder, [*rows, end], 0))
    disordered = results(run(rule, disorder, [*shuffled, end], 0))
    assert not [one for one in disordered if one[1] == "missed"]
    assert Counter(disordered) == Counter(in_order)


@given(
    st.lists(st.tuples(st.integers(0, 25), st.sampled_from(["after", "without"])), max_size=12),
    st.integers(1, 10),
    st.integers(0, 25),
)
@examples(300)
def test_whether_an_event_came_does_not_depend_on_when_it_was_told(
    events: list[tuple[int, str]], within: int, disorder: int
) -> None:
    rows = [{**row(time, id=f"r{i:02}"), what: True} for i, (time, what) in enumerate(events)]
    rows.append(tick(10_000))
    assert run(absence(within), disorder, rows, 0) == wanted(absence(within), disorder, rows)


@pytest.mark.parametrize(
    "rule",
    [
        window("tumble", 10),
        window("tumble", 10, lateness=20),
        window("hop", 10, 2),
        window("hop", 10, 2, lateness=7),
        window("cumulate", 12, 3),
        window("session", 2),
        window("session", 2, lateness=20),
        absence(10),
    ],
    ids=str,
)
def test_what_is_closed_takes_no_room(rule: Any) -> None:
    """A key that goes on for long has the state of its last windows only."""
    worker = Worker(TimedSpec("w", "key", "key", rule, 5, "id"))
    sizes = []
    for number in range(300):
        worker.process([row(number + number // 3 * 5, after=number % 2 == 0, without=number % 2 == 1)])
        worker.state.publish()
        sizes.append(sum(map(len, worker.state.table("timed.w").blobs)))
    assert max(sizes[50:]) <= max(sizes[:50]) * 1.2 + 30
    worker.process([tick(100_000)])
    assert len(worker.state.table("timed.w").due) == 0


@pytest.mark.parametrize("cut", [1, 0])
def test_a_key_has_room_for_so_many_waits(cut: int) -> None:
    rows = [row(time, after=True, id=str(time)) for time in range(PENDING_MAX + 2)]
    said = results(run(absence(10_000), 0, rows, cut))
    assert said == [("k", "missed", 1, 1, "too_many")] * 2


@mock.patch.object(sessions, "DIFFERENT_MAX", ROOM)
def test_a_session_has_room_for_so_many_different_values() -> None:
    """Those that came first; where sessions join, those of the one that has more."""
    rule = window("session", 5, of="id", type=type_of("string"), aggregates=(TimedAggregate.COUNT,), different=True)
    rows = [row(time, id=f"{time:06}") for time in range(ROOM - 1)]
    later = [row(ROOM + 6 + n, id=str(n % 3)) for n in range(9)]
    between = row(ROOM + 2, id="between")
    end = tick(2_000)
    assert [one[-3] for one in results(run(rule, 50, [*rows, *later, end], 0))] == [(ROOM - 1,), (3,)]
    assert [one[-3] for one in results(run(rule, 50, [*rows, *later, between, end], 0))] == [(ROOM,)]
