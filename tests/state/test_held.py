"""Rows that wait for their other parts: undone, stored and read again like any state."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.audit import damages, survey
from state.errors import StateBarrierError, StateCorruptedError
from state.held import HELD_ROWS, Changes, Held, HeldRows
from state.memory import MemoryDisk, MemoryRowStores
from state.rowstore import RowStore
from state.worker_state import WorkerState

WAIT_MS = 1_000


def made(store: RowStore, wait_ms: int = WAIT_MS) -> tuple[WorkerState, HeldRows]:
    held = HeldRows(2, wait_ms)
    state = WorkerState((), (held,))
    state.add_task(0, store)
    return state, held


def stores() -> MemoryRowStores:
    return MemoryRowStores(MemoryDisk(random.Random(1)))


def row(since: int, first: bytes | None = b"a", second: bytes | None = None) -> Held:
    return Held(since, since, (first, second))


def rows(held: HeldRows, places: str = "pqrs") -> dict[str, Held]:
    return {place: found for place in places if (found := held.row(0, place)) is not None}


steps = st.lists(
    st.tuples(
        st.sampled_from(["apply", "apply", "seal", "publish", "undo", "undo_all", "flush", "fail", "restart"]),
        st.dictionaries(st.sampled_from("pqrs"), st.none() | st.integers(0, 9), max_size=3),
    ),
    max_size=30,
)


@given(steps)
def test_it_is_what_the_published_batches_made_of_it(given_steps: list[tuple[str, dict[str, int | None]]]) -> None:
    """Against plain dictionaries: one a layer; what is flushed, and what a restart finds."""
    state, held = made(stores().open(0))
    layers: list[tuple[dict[str, Held], int]] = [({}, 0)]
    sealed = False
    stored: tuple[dict[str, Held], int] = ({}, 0)
    clock = 0
    for what, changes in given_steps:
        if what == "apply":
            clock += 1
            new = {place: None if since is None else row(since) for place, since in changes.items()}
            held.apply(0, Changes(new, clock))
            if len(layers) == 1 + sealed:
                layers.append(layers[-1])
            kept = layers[-1][0] | new
            layers[-1] = ({place: one for place, one in kept.items() if one is not None}, clock)
        elif what == "seal" and not sealed:
            state.seal()
            sealed = True
            layers += [layers[-1]] * (len(layers) == 1)
        elif what == "publish":
            state.publish()
            layers = layers[1:] if len(layers) > 1 else layers
            sealed = False
        elif what == "undo":
            state.undo()
            del layers[1 + sealed :]
        elif what == "undo_all":
            state.undo_all()
            sealed = False
            del layers[1:]
        elif what in ("flush", "fail") and len(layers) == 1:
            cut = state.cut(0, b"meta")
            if what == "fail":
                cut.restore_dirty()
            else:
                cut.write(state._stores[0])
                cut.written()
                stored = layers[0]
                assert held.dirty_rows(0) == 0
        elif what == "restart" and stored[1]:
            store = state._stores[0]
            state, held = made(store)
            layers, sealed, clock = [stored], False, stored[1]
        assert (rows(held), held.clock(0)) == layers[-1]
        assert held.live_keys == len(layers[-1][0])


def test_a_failed_write_is_made_up_for() -> None:
    state, held = made(stores().open(0))
    held.apply(0, Changes({"p": row(5)}, 5))
    state.publish()
    state.cut(0, b"m").restore_dirty()
    cut = state.cut(0, b"m")
    cut.write(state._stores[0])
    _, again = made(state._stores[0])
    assert rows(again) == {"p": row(5)}
    assert again.clock(0) == 5


def test_the_oldest_are_found() -> None:
    _, held = made(stores().open(0))
    held.apply(0, Changes({"p": row(5), "q": row(7), "r": row(9)}, 9))
    assert sorted(place for place, _ in held.older(0, 7)) == ["p", "q"]
    held.apply(0, Changes({"p": None, "q": None}, 10))
    assert list(held.older(0, 8)) == []
    held.apply(0, Changes({"s": row(2)}, 10))
    assert [place for place, _ in held.older(0, 8)] == ["s"]


@pytest.mark.parametrize(
    "value", [b"", b"\x02" + b"\x93\x01\x01\x92\xc0\xc0", b"\x01\xff", b"\x01\x93\x01\x01\x91\xc0"]
)
def test_a_damaged_row_is_found(value: bytes) -> None:
    state, held = made(stores().open(0))
    held.apply(0, Changes({"p": row(5)}, 5))
    state.publish()
    cut = state.cut(0, b"m")
    cut.write(state._stores[0])
    store = state._stores[0]
    assert list(damages(store, (), [HeldRows(2, WAIT_MS)])) == []
    assert survey(store).held == 1
    store.write([(HELD_ROWS + b"p", value)], [])
    with pytest.raises(StateCorruptedError, match="held rows"):
        made(store)
    (told,) = damages(store, (), [HeldRows(2, WAIT_MS)])
    assert told.startswith("held rows: ")


def test_another_time_to_wait_is_a_barrier() -> None:
    state, _ = made(stores().open(0))
    cut = state.cut(0, b"m")
    cut.write(state._stores[0])
    with pytest.raises(StateBarrierError):
        made(state._stores[0], wait_ms=2)
