"""Units are counted as worked out by hand from what the operators keep and call; costs are looked up by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.absent import Blank
from operators.expressions import ExpressionOperator
from operators.operator import OutputField
from operators.schema import DataType, Kind
from operators.windows.layout import Layout, layouts
from operators.windows.spec import Aggregate, PreviousFeature, WindowFeature, WindowSpec
from state.errors import Place
from streamproc.cli.common import load_stages
from streamproc.language import compile_stages, load_pipeline
from streamproc.language.costing import Cost, Costs, Units, predict, shipped_costs
from streamproc.language.costing.expressions import expression_units
from streamproc.language.costing.windows import SHARED, window_units
from streamproc.language.expression import compile_expression, parse

MONEY, TEXT, FLOAT = DataType(Kind.DECIMAL, 2), DataType(Kind.STRING), DataType(Kind.FLOAT64)
HOUR, DAY = 3_600_000, 86_400_000
CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = sorted(CONFIGS.glob("*/pipeline.yaml"))


def layout(*features: WindowFeature, previous: tuple[PreviousFeature, ...] = ()) -> Layout:
    (one,) = layouts(WindowSpec("card", "card", features, previous))
    return one


def window(name: str, aggregate: Aggregate, over: int, of: str | None = "amount", delay: int = 0) -> WindowFeature:
    type_ = {"amount": MONEY, "shop": TEXT}.get(of or "")
    return WindowFeature(name, aggregate, over, of, type_, nullable=False, delay_ms=delay)


def test_a_count_of_rows_is_a_difference_of_positions() -> None:
    units = window_units(layout(window("n", Aggregate.COUNT, HOUR, None)))
    assert units == {SHARED: {"window": 1}, "n": {"window:result:count": 1, "window:edge": 1}}


def test_windows_that_share_are_charged_in_shares() -> None:
    """Two sums of one column over two windows: one running total, an edge and a difference each."""
    units = window_units(layout(window("s1", Aggregate.SUM, HOUR), window("s2", Aggregate.SUM, DAY)))
    one = {"window:result:sum": 1, "window:edge": 1, "window:prefix": 0.5, "window:difference": 1}
    assert units == {SHARED: {"window": 1}, "s1": one, "s2": one}


def test_the_same_window_twice_has_one_edge() -> None:
    units = window_units(layout(window("n", Aggregate.COUNT, HOUR, None), window("s", Aggregate.SUM, HOUR)))
    assert units["n"] == {"window:result:count": 1, "window:edge": 0.5}
    assert units["s"]["window:edge"] == 0.5


def test_a_delayed_window_has_two_edges() -> None:
    units = window_units(layout(window("n", Aggregate.COUNT, HOUR, None, delay=DAY)))
    assert units["n"] == {"window:result:count": 1, "window:edge": 2}


def test_a_deviation_reads_three_totals_and_a_count() -> None:
    """Sum, and two limbs of the squares; the count is a difference of positions."""
    units = window_units(layout(window("d", Aggregate.STDDEV, HOUR)))
    assert units["d"] == {"window:result:stddev": 1, "window:edge": 1, "window:prefix": 3, "window:difference": 3}


@pytest.mark.parametrize(
    ("aggregate", "of", "column", "lookup"),
    [
        (Aggregate.MAX, "amount", "extreme", "extreme"),
        (Aggregate.DISTINCT, "shop", "hash", "distinct"),
        (Aggregate.FIRST_SEEN, "shop", "hash", "first_seen"),
    ],
)
def test_structures_of_their_own(aggregate: Aggregate, of: str, column: str, lookup: str) -> None:
    units = window_units(layout(window("a", aggregate, HOUR, of), window("b", aggregate, DAY, of)))
    one = {f"window:result:{aggregate}": 1, "window:edge": 1, f"window:column:{column}": 0.5, f"window:{lookup}": 1}
    assert units == {SHARED: {"window": 1}, "a": one, "b": one}


def test_previous_values() -> None:
    previous = tuple(PreviousFeature(f"p{n}", "lat", FLOAT, n) for n in (1, 2))
    units = window_units(layout(previous=previous))
    assert units == {SHARED: {"window": 1}, "p1": {"window:previous": 1}, "p2": {"window:previous": 1}}


def test_equal_subexpressions_are_the_first_ones() -> None:
    scope = {name: OutputField(name, kind, True) for name, kind in (("amount", MONEY), ("mean", FLOAT), ("shop", TEXT))}
    texts = {"z": "amount / mean", "far": "amount / mean > 3", "here": "shop = 'a'", "same": "amount"}
    step = ExpressionOperator([(name, compile_expression(parse(t, Place("")), scope, {})) for name, t in texts.items()])
    units = expression_units(step)
    assert units["z"]["kernel:divide:float64"] == 1
    assert "kernel:divide:float64" not in units["far"]
    assert units["far"]["kernel:gt:float64"] == 1
    assert units["here"] == Units({"kernel:eq:string": 1, "expressions:output": 1})
    assert units["same"] == Units(["expressions:output"])
    assert (
        sum(number for one in units.values() for unit, number in one.items() if "kernel" in unit) == step._program.size
    )


def test_a_cost_is_so_much_a_call_and_so_much_a_row() -> None:
    costs = Costs({}, {"a": Cost(10, 0.5), "a:x": Cost(0, 2)})
    assert costs.of({"a": 2, "a:x": 0.5}) == Cost(20, 2)
    assert costs.of({"a:y:z": 1}) == Cost(10, 0.5)  # not measured: as the nearest part of its name that is
    assert Cost(10, 0.5).at(1) == 10.5
    assert Cost(10, 0.5).at(100) == 0.6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_all_that_a_shipped_pipeline_does_was_measured(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for kernels, which are as many as there are functions and types: they have a middle one to fall back on."""
    asked: set[str] = set()
    look_up = Costs.of

    def of(self: Costs, units: dict[str, float]) -> Cost:
        asked.update(units)
        return look_up(self, units)

    monkeypatch.setattr(Costs, "of", of)
    pipeline = load_pipeline(path)
    there = all((path.parent / model.file).exists() for model in pipeline.models.values())
    predict(pipeline, load_stages(str(path)) if there else compile_stages(pipeline, models=Blank))
    missing = asked - set(shipped_costs().units)
    assert {name for name in missing if not name.startswith("kernel:")} == set()
    assert len([name for name in missing if name.rpartition(":")[0] not in shipped_costs().units]) <= 1
