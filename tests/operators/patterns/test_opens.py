"""A key of which nothing is known gets its runs from what such a row began before: never another state than it would
have from the matchers. Random patterns of one key, each twice; batches are undone, states written and read.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from operators.batch import Batch
from operators.operator import INT64
from operators.patterns.keys import Patterns
from operators.patterns.operator import PatternOperator
from operators.patterns.sight import packed
from operators.patterns.slots import Slot, SlotKind
from operators.patterns.spec import PatternSpec
from state.memory import MemoryDisk, MemoryRowStore, MemoryRowStores
from state.worker_state import WorkerState
from tests.operators.patterns.test_law import gapped, leaves, strict
from tests.operators.patterns.test_unread import PLAIN, A, B, C, batch_of, marks, options, spec_of
from tests.operators.samples import examples

LONG = 1_000
CLEAN = Slot("last", SlotKind.LAST, 0, 0, INT64)
"""Of no variable: a run keeps nothing of its rows."""


class World(NamedTuple):
    """An operator, its state, and the disk that outlives both."""

    made: PatternOperator
    state: WorkerState
    disk: MemoryDisk
    store: MemoryRowStore

    def restored(self) -> World:
        self.store.close()
        return world(self.made, self.disk)

    def stored(self) -> Any:
        """What a flush writes."""
        cut = self.state.cut(0)
        cut.write(self.store)
        cut.written()
        return cut.encode()


class Unhurried(Patterns):
    """Every row goes to the matchers."""

    def _opens_of(self, bits: int) -> None:
        return None


def world(made: PatternOperator, disk: MemoryDisk) -> World:
    store, state = MemoryRowStores(disk).open(0), WorkerState(made.tables)
    state.add_task(0, store)
    return World(made, state, disk, store)


def both(specs: list[PatternSpec]) -> list[World]:
    """The operator as it is, and one without what it knows of beginnings."""
    made, slow = PatternOperator(specs, "t"), PatternOperator(specs, "t")
    slow._patterns = Unhurried(specs, {})
    return [world(one, MemoryDisk(random.Random(0))) for one in (made, slow)]


def said(one: World, batch: Batch) -> Any:
    """What a batch says, and what is known of each key then."""
    one.made.process(batch, one.state)
    columns = {field.name: batch.columns[field.name] for field in one.made.outputs}
    table = one.state.table("t")
    known = {key: (table.rows[slot].tolist(), table.blobs[slot]) for key, slot in table.keys_of(0).items()}
    return {name: (to.values.tolist(), to.valid is None or to.valid.tolist()) for name, to in columns.items()}, known


def late_batch(rows: Any) -> Batch:
    """Each row with its time."""
    batch = batch_of([row[:4] for row in rows])
    batch.event_time[:] = [row[4] for row in rows]
    return batch


ttls = st.one_of(st.just([0] * 3), st.lists(st.sampled_from([4, 9, LONG]), min_size=3, max_size=3))
nodes = st.one_of(strict, gapped)
begun = st.tuples(leaves, nodes).map(lambda parts: ("seq", [*parts]))
keeps = st.sampled_from([False, False, False, True])
patterns = st.lists(st.tuples(st.one_of(begun, begun, nodes), options, keeps), min_size=1, max_size=3)
rows = st.tuples(st.sampled_from("kkkl"), marks, st.integers(0, 2), st.booleans(), st.integers(0, 20))
batches = st.lists(
    st.tuples(st.lists(rows, min_size=1, max_size=6), st.sampled_from(["", "", "undo", "restore"])),
    min_size=2, max_size=5,
)  # fmt: skip


def at(time: int, mark: str, *, seen: bool = True) -> Any:
    return "k", mark, 0, seen, time


def follows(*parts: Any, **given: Any) -> Any:
    return ("seq", [*parts]), PLAIN | given, False


AB, BC, HIDDEN = follows(A, B), follows(B, C), follows(A, C, counts="w")


@pytest.mark.timeout(300)
@example(
    [follows(A, B, numbers=True)], [0] * 3, [([at(0, "a"), at(1, "b")], "restore"), ([at(2, "a"), at(3, "b")], "")]
)
@example([AB, HIDDEN], [0] * 3, [([at(0, "a", seen=False)], "undo"), ([at(0, "a")], ""), ([at(1, "c")], "")])
@example(
    [follows(("alt", [("seq", [A, B]), C]), B, defined="ab")], [0] * 3, [([at(0, "")], "undo"), ([at(0, "a")], "")]
)
@example([AB, follows(A, C)], [0] * 3, [([at(0, "a")], "restore"), ([at(1, "c")], "")])
@example([AB], [LONG] * 3, [([at(9, "a"), at(9, "c"), at(3, "a")], ""), ([at(9, "b")], "undo")])
@example([AB, follows(A)], [0] * 3, [([at(0, "a")], ""), ([at(1, "b")], "")])
@example([AB, BC], [4, LONG, 9], [([at(0, "ab")], "undo"), ([at(0, "ab")], ""), ([at(1, "b")], "")])
@given(patterns, ttls, batches)
@examples(300)
def test_a_beginning_is_that_of_the_matchers(given: Any, ttls: Any, batches: Any) -> None:
    specs = []
    for i, (node, one, keeps) in enumerate(given):
        spec = spec_of(f"x{i}", node, one)
        specs.append(replace(spec, ttl=ttls[i], slots=spec.slots if keeps else (CLEAN,)))
    fast, slow = both(specs)
    for some, then in batches:
        assert said(fast, late_batch(some)) == said(slow, late_batch(some))
        for one in (fast, slow):
            (one.state.undo if then == "undo" else one.state.publish)()
        assert fast.stored() == slow.stored()
        if then == "restore":
            fast, slow = fast.restored(), slow.restored()


def test_bits_that_begin_nothing_make_no_beginning_of_their_own() -> None:
    """A row's bits are those of all columns; what is kept at hand is bounded."""
    specs = [replace(spec_of(f"x{i}", *one[:2]), slots=(CLEAN,)) for i, one in enumerate((AB, HIDDEN))]
    fast, _ = both(specs)
    some = [
        (f"{mark}{seen}", mark, 0, seen) for mark in ("a", "ab", "ac", "abc", "b", "c", "") for seen in (True, False)
    ]
    batch, patterns = batch_of(some), fast.made._patterns
    fast.made.process(batch, fast.state)
    known = patterns.opens.cache_info()
    assert (known.misses, known.hits) == (2, 6), "an A that the second one sees, and one that it does not"
    bits = packed(batch, patterns.columns, np.arange(2))
    begun = [patterns.opens(one & patterns.openers) for one in bits]
    assert [one and [*one.runs] for one in begun] == [[0, 1], [0]]
