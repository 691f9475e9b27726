"""Rows in parts: whole once, in the order of their last parts; what never comes is told of once."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.handoff import HandoffEncoder, read_part, united
from operators.plan import Branch, GatherSpec, Handoff
from state.held import HeldRows
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.event_times import PartTimes
from streamproc.runtime.gathering import Gatherer
from streamproc.runtime.merge import Lane, Run, merge_heads
from streamproc.runtime.rows import Refused, TaskInput

TOPIC = "bank.user"
TP = TopicPartition(TOPIC, 0)
NOW_MS = 1_760_000_000_000
WAIT_MS = 1_600
"""Looked at every 100 ms."""


def part(number: int, place: str, **said: Any) -> bytes:
    own = {"id": place, "first": 1} if number == 0 else {f"more_{number}": number}
    return json.dumps({**own, "_place": place, "_part": number, **said, "_route": "u"}, separators=(",", ":")).encode()


def mark(number: int, place: str) -> bytes:
    return part(number, place, _refused=True)


class World:
    """One task; `give` looks at records, and takes over what they change."""

    def __init__(self, parts: int = 2) -> None:
        self.held = HeldRows(parts, WAIT_MS)
        self.state = WorkerState((), (self.held,))
        self.state.add_task(0, MemoryRowStores(MemoryDisk(random.Random(1))).open(0))
        self.gatherer = Gatherer(TOPIC, GatherSpec(tuple(f"stage{n}" for n in range(parts)), WAIT_MS), self.held)
        self.offset = 0
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.strays: list[Refused] = []
        self.given_up: list[Refused] = []

    def give(self, *records: tuple[int, bytes | None]) -> None:
        """(log time, record) each."""
        offsets = list(range(self.offset, self.offset + len(records)))
        self.offset += len(records)
        times = [time for time, _ in records]
        chunk = Chunk(TP, offsets, [b"u"] * len(records), [value for _, value in records], times, self.offset)
        (out,), strays, gathered = self.gatherer.look([TaskInput(0, TP, [chunk])])
        self.gatherer.apply(gathered)
        self.state.publish()
        (whole,) = out.chunks
        assert whole.next_offset == self.offset
        self.rows += [(at, json.loads(one or b"")) for at, one in zip(whole.offsets, whole.values, strict=True)]
        self.strays += strays
        self.given_up += gathered.given_up


def test_a_row_is_whole_with_its_last_part() -> None:
    world = World()
    world.give((1, part(0, "p")), (1, part(1, "q")), (2, part(1, "p")))
    assert world.rows == [(2, {"id": "p", "first": 1, "more_1": 1, "_route": "u"})]
    world.give((3, part(0, "q")))
    assert [(at, row["id"]) for at, row in world.rows] == [(2, "p"), (3, "q")]
    assert world.held.live_keys == 0
    assert (world.strays, world.given_up) == ([], [])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_three_parts_in_any_order(order: tuple[int, ...]) -> None:
    world = World(3)
    for number in order:
        world.give((1, part(number, "p")))
    assert world.rows == [(2, {"id": "p", "first": 1, "more_1": 1, "more_2": 2, "_route": "u"})]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("refused_first", [False, True])
def test_what_a_stage_has_refused_is_no_row_and_waits_no_more(first: int, refused_first: bool) -> None:
    world = World()
    records = [(1, mark(first, "p")), (1, part(1 - first, "p"))]
    world.give(*(records if refused_first else reversed(records)))
    assert (world.rows, world.strays, world.given_up, world.held.live_keys) == ([], [], [], 0)


def test_refused_by_both() -> None:
    world = World()
    world.give((1, mark(0, "p")), (1, mark(1, "p")))
    assert (world.rows, world.strays, world.held.live_keys) == ([], [], 0)


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b'{"a":1}', part(2, "p"), part(-1, "p"), b'{"_place":7,"_part":0}', b"\xff"]
)
def test_what_no_stage_wrote_is_a_dead_letter(value: bytes | None) -> None:
    world = World()
    world.give((1, part(0, "p")), (5, value))
    (stray,) = world.strays
    assert (stray.offset, stray.timestamp, stray.reason, stray.topic) == (1, 5, "not_handed_on", TOPIC)
    world.give((6, part(1, "p")))
    assert len(world.rows) == 1


def test_a_part_comes_once() -> None:
    world = World()
    world.give((1, part(0, "p")), (1, part(0, "p")), (1, part(1, "p")))
    assert [stray.offset for stray in world.strays] == [1]
    assert [at for at, _ in world.rows] == [2]


def test_what_waits_too_long_is_told_of_once_and_its_late_parts_are_dropped() -> None:
    world = World()
    world.give((10, part(0, "p")), (20, part(1, "q")))
    world.give((1_690, part(0, "r")), (1_690, part(1, "r")))
    assert world.given_up == []
    world.give((1_700, part(0, "s")))
    assert [(one.offset, one.reason, one.detail) for one in world.given_up] == [
        (0, "part_missing", "no part of the row came from stage1"),
        (1, "part_missing", "no part of the row came from stage0"),
    ]
    world.give((1_800, part(1, "p")), (1_801, part(1, "s")))
    assert [row["id"] for _, row in world.rows] == ["r", "s"]
    assert world.held.live_keys == 1  # the other part of q may still come
    world.give((3_400, part(0, "t")), (3_400, part(1, "t")))
    assert world.held.live_keys == 0
    assert len(world.given_up) == 2


records = st.lists(
    st.tuples(
        st.integers(0, 400), st.integers(0, 1), st.sampled_from("pqrstu"), st.sampled_from([False, False, False, True])
    ),
    max_size=40,
)


@given(records, st.data())
def test_it_does_not_matter_where_batches_are_cut(some: list[tuple[int, int, str, bool]], data: st.DataObject) -> None:
    now, log = 0, []
    for step, number, place, refused in some:
        now += step
        log.append((now, (mark if refused else part)(number, place)))
    whole, cut = World(), World()
    whole.give(*log)
    at = 0
    while at < len(log):
        size = data.draw(st.integers(1, 5))
        cut.give(*log[at : at + size])
        at += size
    assert (cut.rows, cut.strays, cut.given_up) == (whole.rows, whole.strays, whole.given_up)
    if log:
        assert list(cut.held.canonical(0)) == list(whole.held.canonical(0))


def test_a_batch_that_is_undone_has_not_been() -> None:
    world = World()
    world.give((1, part(0, "p")))
    before = list(world.held.canonical(0))
    chunk = Chunk(TP, [1, 2], [b"u"] * 2, [part(1, "p"), part(0, "q")], [9, 9], 3)
    _, _, gathered = world.gatherer.look([TaskInput(0, TP, [chunk])])
    assert list(world.held.canonical(0)) == before
    world.gatherer.apply(gathered)
    assert list(world.held.canonical(0)) != before
    world.state.undo()
    assert list(world.held.canonical(0)) == before


def clocks(times: PartTimes, offset: int, *records: bytes | None, logged: int = 0) -> list[int]:
    """What merging goes by of a chunk."""
    size = len(records)
    offsets = list(range(offset, offset + size))
    chunk = Chunk(TP, offsets, [None] * size, list(records), [logged] * size, offset + size)
    return list(map(int, times.of(chunk)))


def by_place() -> PartTimes:
    """Of rows in two parts; where a row stood is when it happened."""

    def times(chunk: Chunk) -> npt.NDArray[np.int64]:
        return np.array([json.loads(value or b"{}").get("_place", -1) for value in chunk.values], np.int64)

    return PartTimes(times, 2)


def test_merging_goes_by_how_far_all_branches_have_come() -> None:
    """What is merged with the parts must not come before a row that is whole late."""
    times = by_place()
    assert clocks(times, 0, part(0, "5"), part(0, "8"), None) == [-1, -1, -1]
    assert clocks(times, 3, part(1, "5"), part(1, "4"), part(1, "9"), part(0, "6")) == [5, 5, 8, 8]
    assert clocks(times, 3, part(1, "5")) == [-1]  # read again: what lies before is not known any more
    assert clocks(times, 4, part(0, "7")) == [5]


def test_a_refusal_does_not_say_that_rows_before_it_are_through_their_branch() -> None:
    """The first stage of a branch refuses the row of 100 while that of 50 is on its way to the second."""
    times = by_place()
    mine = np.array(clocks(times, 0, part(0, "50"), part(0, "100"), mark(1, "100"), part(1, "50")))
    lanes = [Lane(mine, open=False), Lane(np.array([80]), open=False)]
    assert merge_heads(lanes) == [Run(0, 4), Run(1, 1)]  # a login of 80 comes when that of 50 is whole
    assert clocks(times, 4, part(1, "120")) == [100]


def test_a_branch_that_refuses_all_for_long_holds_nothing_back() -> None:
    times = by_place()
    reached = []
    for second in range(100):
        at = f"{second}"
        reached += clocks(times, 2 * second, part(0, at), mark(1, at), logged=NOW_MS + 1000 * second)[1:]
    assert reached == [-1] * 60 + [29] * 30 + [59] * 10
    assert clocks(times, 200, part(1, "70"), part(0, "150")) == [70, 70]  # it goes by what is sent again
    assert clocks(times, 202, mark(1, "150"), logged=NOW_MS + 200_000) == [70]


def test_united_is_what_one_stage_would_have_written() -> None:
    assert json.loads(united([part(0, "p"), part(1, "p"), part(2, "p")])) == {
        "id": "p", "first": 1, "more_1": 1, "more_2": 2, "_route": "u",
    }  # fmt: skip
    nothing_more = b'{"_place":"p","_part":1,"_route":"u"}'
    assert united([part(0, "p"), nothing_more]) == b'{"id":"p","first":1,"_route":"u"}'
    tricky = part(0, "p").replace(b'"first":1', rb'"first":"a,\"_place\":\"x\","')
    assert json.loads(united([tricky, part(1, "p")]))["first"] == 'a,"_place":"x",'


@pytest.mark.parametrize("value", [None, b"{", b'{"_place":"1-1"}', b'{"_place":"1-1","id":"p"}', b"[]"])
def test_nothing_is_said_of_a_refused_record_that_no_stage_wrote(value: bytes | None) -> None:
    handoff = Handoff("t", "user", (), branch=Branch("t", "user", 1), placed=True)
    encoder = HandoffEncoder(handoff, digests=False, passes=True, named="id", event_time="at")
    assert encoder.refused(value) is None


@pytest.mark.parametrize(("user", "route"), [('"u1"', "u1"), ("null", "p"), ('""', " "), ("17", "17")])
def test_a_refusal_goes_where_the_other_parts_go(user: str, route: str) -> None:
    handoff = Handoff("t", "user", (), branch=Branch("t", "user", 1), placed=True)
    encoder = HandoffEncoder(handoff, digests=False, passes=True, named="id", event_time="at")
    found = encoder.refused(b'{"id":"p","at":5,"user":%b,"_place":"1-1","_route":"d"}' % user.encode())
    assert found is not None
    assert found[0] == route
    told = read_part(found[1])
    assert told is not None
    assert (told.place, told.number, told.refused) == ("1-1", 1, True)
    assert json.loads(found[1])["at"] == 5
