"""Rows one by one, and by loops, give what columns give: results and state, bit by bit, also after an undo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.windows import extremes, hashes, loop, operator
from operators.windows.few import few
from operators.windows.layout import layouts
from operators.windows.program import packed, program
from operators.windows.row_by_row import Loops, compiled_loops
from operators.windows.spec import WindowSpec
from state.compiling import can_compile
from state.errors import RecordError
from tests.operators.samples import examples
from tests.operators.windows.harness import Row, batch_of, by_task, feature, previous, random_rows, results, spec_of
from tests.operators.windows.test_replay import TASKS, Twin, random_spec
from tests.operators.windows.test_windows import ORDERS

MANY = 1 << 30
WAYS = ("columns", "one by one", "loops", *["compiled loops"] * can_compile())


def _twin(spec: WindowSpec, way: str) -> Twin:
    """An operator that does rows in order in one way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator, "FEW", MANY if way == "one by one" else 0)
        twin = Twin(spec)
        if way == "loops":
            patch.setattr(operator, "can_compile", lambda: True)
            patch.setattr(operator, "compiled_loops", Loops)
        if way in ("loops", "compiled loops"):
            twin.operator.prepare()
    return twin


def _process(twin: Twin, rows: list[Row], *, undo: bool) -> list[Row]:
    if not undo:
        return twin.process(rows)
    batch = batch_of(by_task(rows))
    twin.operator.process(batch, twin.state)
    twin.state.undo()
    return results(twin.operator, batch)


def _same(spec: WindowSpec, rows: list[Row], sizes: list[int]) -> None:
    """Batches of `sizes` by turns, each first undone with rows more; and replayed without results."""
    twins = {way: _twin(spec, way) for way in WAYS}
    columns, replayed = twins.pop("columns"), _twin(spec, WAYS[-1])
    at = turn = 0
    while at < len(rows):
        end = at + sizes[turn % len(sizes)]
        for stop, undo in ((end + 3, True), (end, False)):
            want = _process(columns, rows[at:stop], undo=undo)
            for way, twin in twins.items():
                got = _process(twin, rows[at:stop], undo=undo)
                assert repr(got) == repr(want), f"{way}: rows {at} to {stop}"
                assert twin.digests == columns.digests, f"{way}: rows {at} to {stop}, undone: {undo}"
                assert _heads(twin) == _heads(columns), f"{way}: rows {at} to {stop}, undone: {undo}"
        replayed.replay(rows[at:end])
        assert replayed.digests == columns.digests, f"replayed: rows {at} to {end}"
        at, turn = end, turn + 1


def _heads(twin: Twin) -> list[list[list[int]]]:
    """How long each key's block is, which positions are live, and which are stored as they are."""
    heads = []
    for spec in twin.operator.tables:
        table = twin.state.table(spec.name)
        assert table.ring is not None
        columns = np.column_stack((table.ring.heads[:, 1:], table.ring.flushed))
        heads.append(columns[: table.slot_count].tolist())
    return heads


@examples(25)
@given(
    seed=st.integers(0, 1 << 32), order=st.sampled_from(sorted(ORDERS)), short=st.booleans(),
    sizes=st.lists(st.integers(1, 24), min_size=1, max_size=4),
)  # fmt: skip
def test_every_way_is_that_of_columns(seed: int, order: str, short: bool, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    rows = random_rows(seed, int(rng.integers(30, 90)), **{"tasks": TASKS, "null": 0.1} | ORDERS[order])
    leap = 0
    for row in rows:  # some have no key; now and then time leaps beyond every horizon
        leap += int(rng.choice([0, 3000], p=[0.97, 0.03]))
        row |= {"key": None if rng.random() < 0.03 else row["key"], "time": row["time"] + leap}
    with pytest.MonkeyPatch.context() as patch:
        if short:  # what else takes long histories
            patch.setattr(hashes, "SHORT", 3)
            patch.setattr(extremes, "BLOCKS", (4, 16))
        _same(random_spec(rng), rows, sizes)


def test_long_histories_are_the_same() -> None:
    spec = spec_of(
        feature("distinct", "number", 3000), feature("distinct", "shop", 20_000, delay_ms=300),
        feature("first_seen", "shop", 9000, delay_ms=50), feature("max", "amount", 20_000),
        feature("min", "ratio", 4000, delay_ms=900), feature("stddev", "amount", 20_000),
        previous=(previous("amount", 3), previous("at")),
    )  # fmt: skip
    _same(spec, random_rows(7, 3000, keys=1, null=0.02), [7, 1, 16])


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether batches were done one by one."""
    found: list[bool] = []

    def spy(*args: object, **more: object) -> bool:
        found.append(few(*args, **more))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(operator, "few", spy)
    return found


SUM = feature("sum", "amount", 40)


@pytest.mark.parametrize(
    ("spec", "back", "is_done"),
    [
        (spec_of(SUM), 0, True),
        (spec_of(SUM, ttl_ms=200), 0, True),
        (spec_of(SUM, previous=(previous("amount", 2),)), 0, True),
        (spec_of(SUM), 1, False),
        (spec_of(SUM, ttl_ms=200), -300, False),
        (spec_of(SUM, max_entries=2), 0, False),
        (spec_of(feature("sum", "amount", 50, precision_ms=25)), 0, False),
        (spec_of(SUM, previous=(previous("amount", where="flag"),)), 0, True),
    ],
)
def test_which_rows_are_done_one_by_one(spec: WindowSpec, back: int, is_done: bool, tried: list[bool]) -> None:
    twin = Twin(spec)
    rows = random_rows(1, 4, keys=1, null=0.0)
    time = rows[-2]["time"]
    rows[-1]["time"] = time - back
    twin.process(rows[:1])
    twin.process(rows[1:])
    assert tried[-1] is is_done


@pytest.mark.parametrize("way", WAYS)
def test_a_total_that_is_too_large_is_refused_and_leaves_nothing(way: str) -> None:
    spec = spec_of(SUM)
    rows = random_rows(1, 3, keys=1, null=0.0)
    for row, amount in zip(rows, ((1 << 62) - 1, 1, 1), strict=True):
        row["amount"] = amount
    twin, before = _twin(spec, way), _twin(spec, way)
    twin.process(rows[:2])
    before.process(rows[:2])
    with pytest.raises(RecordError, match="overflow"):
        twin.process(rows[2:])
    twin.state.undo()
    assert twin.digests == before.digests


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_is_too_large_is_refused_even_if_the_total_is_not(way: str) -> None:
    rows = random_rows(1, 2, keys=1, null=0.0)
    for row, amount in zip(rows, (5, -(1 << 62) - 1), strict=True):
        row["amount"] = amount
    with pytest.raises(RecordError, match="overflow"):
        _twin(spec_of(SUM), way).process(rows)


@pytest.mark.parametrize("seed", range(3))
def test_a_late_row_may_come_at_any_time(seed: int) -> None:
    """Columns do its key in that batch, loops the others', and its own again in the next one."""
    spec = spec_of(feature("distinct", "shop", 300), feature("stddev", "amount", 40), previous=(previous("at", 2),))
    _same(spec, random_rows(seed, 120, keys=6, late=0.03, tasks=TASKS), [11, 30])


@pytest.mark.parametrize("way", WAYS)
def test_what_an_undone_batch_knew_of_a_ring_is_forgotten(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch that comes instead, with a late row, leaves the ring as long and as new as the undone one did."""
    monkeypatch.setattr(hashes, "SHORT", 3)
    spec, (row, *_) = spec_of(feature("distinct", "shop", 300), feature("first_seen", "shop", 300)), random_rows(1, 1)

    def rows(*shops: tuple[int, str]) -> list[Row]:
        return [row | {"time": row["time"] + at, "shop": shop} for at, shop in shops]

    twin = _twin(spec, way)
    twin.process(rows((0, "a"), (1, "b")))
    _process(twin, rows((2, "c"), (3, "d"), (9, "e")), undo=True)
    twin.process(rows((9, "x"), (3, "y"), (4, "z")))
    found = twin.process(rows((10, "c"), (11, "x")))
    assert [(each["distinct_shop_300"], each["first_seen_shop_300"]) for each in found] == [(6, True), (6, False)]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_forgotten_though_the_ring_has_become_short_meanwhile(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The undone batch found it long; of the one that comes instead most entries make room first."""
    monkeypatch.setattr(hashes, "SHORT", 3)
    spec, (row, *_) = spec_of(feature("distinct", "shop", 300), feature("first_seen", "shop", 300)), random_rows(1, 1)

    def rows(*shops: tuple[int, str]) -> list[Row]:
        return [row | {"time": row["time"] + at, "shop": shop} for at, shop in shops]

    twin = _twin(spec, way)
    twin.process(rows(*((at, "a") for at in range(6)), (1000, "b")))
    _process(twin, rows((1002, "c"), (1003, "d"), (1009, "e")), undo=True)
    twin.process(rows((1009, "x"), (1003, "y"), (1004, "z")))
    found = twin.process(rows((1010, "c"), (1011, "x")))
    assert [(each["distinct_shop_300"], each["first_seen_shop_300"]) for each in found] == [(5, True), (5, False)]


@pytest.mark.skipif(not can_compile(), reason="numba is an extra")
def test_each_loop_is_compiled_once_whatever_the_layout_and_the_rows() -> None:
    _twin(spec_of(feature("distinct", "shop", 30)), "compiled loops").process(random_rows(1, 1))
    _twin(spec_of(feature("max", "ratio", 30, delay_ms=5)), "compiled loops").process(random_rows(1, 40))
    assert [len(getattr(loop, "signatures")) for loop in compiled_loops()] == [1, 1, 1]  # noqa: B009


@pytest.mark.parametrize("seed", range(9))
def test_loops_are_given_the_whole_program(seed: int) -> None:
    layout = next(one for one in layouts(random_spec(np.random.default_rng(seed))) if not one.precision)
    mine = program(layout)
    given_on = loop.unpacked(packed(mine))
    assert [np.array(part).tolist() for part in given_on] == [np.array(part).tolist() for part in mine]


def test_numbers_that_the_kept_code_has_from_other_modules() -> None:
    """It is made anew when loop.py changes, not when these do: who changes one, changes a line there, too."""
    found = {name: value for name, value in vars(loop).items() if isinstance(value, int) and name[0] != "_"}
    low, high = -(1 << 63), (1 << 63) - 1
    assert found == {
        "KNOWN": 1, "COUNTED": 2, "NOTHING": high, "NONE": -1, "NEVER": low, "TOTAL_MAX": 1 << 62,
    }  # fmt: skip


def test_where_nothing_can_be_compiled_windows_go_by_columns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> Loops:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(operator, "can_compile", lambda: True)
    monkeypatch.setattr(operator, "compiled_loops", refused)
    twin, other = Twin(spec_of(SUM)), Twin(spec_of(SUM))
    twin.operator.prepare()
    rows = random_rows(1, 40)
    assert twin.process(rows) == other.process(rows)
    (line,) = caplog.messages
    assert line == "windows go by columns: numba compiles nothing here (RuntimeError); can NUMBA_CACHE_DIR be written?"


def test_without_numba_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "can_compile", lambda: False)
    monkeypatch.delattr(operator, "compiled_loops")
    twin, other = Twin(spec_of(SUM)), Twin(spec_of(SUM))
    twin.operator.prepare()
    rows = random_rows(1, 40)
    assert twin.process(rows) == other.process(rows)
