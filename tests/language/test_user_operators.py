"""Operators of the user: from beside the pipeline or from an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.operator import Operator
from state.errors import ConfigError, Place
from streamproc.language import compile_pipeline, read_pipeline
from tests.language.helpers import changed, compiled

SOURCE = """
import numpy as np
from operators.batch import Column
from operators.operator import Operator, OutputField
from operators.schema import DataType, Kind


class Doubled(Operator):
    def __init__(self, field: str, factor: int = 2) -> None:
        self.field, self.factor = field, factor

    @property
    def inputs(self):
        return (self.field,)

    @property
    def outputs(self):
        return (OutputField("doubled", DataType(Kind.DECIMAL, 2), False),)

    def process(self, batch, context):
        batch.columns["doubled"] = Column(DataType(Kind.DECIMAL, 2), batch.columns[self.field].values * self.factor)
"""


def with_operator(tmp_path: Path, declared: str, source: str = SOURCE, rule: str = "doubled > 100") -> str:
    (tmp_path / "ops.py").write_text(source)
    return changed(("rules:\n", f"operators:\n  twice: {declared}\nrules:\n"), ("spend_count_1m >= 5", rule))


def test_an_operator_beside_the_pipeline(tmp_path: Path) -> None:
    text = with_operator(tmp_path, "{operator: './ops.py:Doubled', field: spend_sum_1m, factor: 3}")
    plan = compiled(text, str(tmp_path / "p.yaml"))
    names = [type(step).__name__ for step in plan.steps]
    assert names == ["WindowOperator", "ExpressionOperator", "Doubled", "ExpressionOperator"]
    assert plan.steps[2].inputs == ("spend_sum_1m",)
    assert plan.steps[2].factor == 3  # type: ignore[attr-defined]


def test_its_source_belongs_to_the_state(tmp_path: Path) -> None:
    text = with_operator(tmp_path, "{operator: './ops.py:Doubled', field: amount}")
    first = compiled(text, str(tmp_path / "p.yaml"))
    (tmp_path / "ops.py").write_text(SOURCE.replace("* self.factor", "* self.factor + 1"))
    assert compiled(text, str(tmp_path / "p.yaml")).state_fingerprint != first.state_fingerprint


def test_the_loader_is_handed_in() -> None:
    def loader(reference: str, folder: Path, place: Place) -> type[Operator]:
        raise ConfigError(f"{reference} is not on this worker's list", place)

    text = changed(("rules:\n", "operators: {o: {operator: 'a.b:C'}}\nrules:\n"))
    with pytest.raises(ConfigError, match=r"a\.b:C is not on this worker's list"):
        compile_pipeline(read_pipeline(text, "p.yaml"), operators=loader)


@pytest.mark.parametrize(
    ("declared", "source", "message"),
    [
        (
            "{operator: './ops.py:Double', field: amount}",
            SOURCE,
            "there is no class Double in ops.py (did you mean Doubled?)",
        ),
        ("{operator: './ops.py:Doubled'}", SOURCE, "missing 1 required positional argument: 'field'"),
        ("{operator: './ops.py:Doubled', felid: amount}", SOURCE, "unexpected keyword argument 'felid'"),
        ("{operator: './ops.py:Doubled', field: amuont}", SOURCE, "unknown column 'amuont' (did you mean amount?)"),
        ("{operator: './ops.py:np', field: amount}", SOURCE, "np is not an Operator"),
        ("{operator: './ops.py:Doubled', field: amount}", "1 / 0", "ops.py cannot be loaded: ZeroDivisionError"),
        (
            "{operator: './ops.py:Doubled', field: amount}",
            SOURCE.replace('"doubled"', '"amount"'),
            "'amount' exists already",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, declared: str, source: str, message: str) -> None:
    text = with_operator(tmp_path, declared, source, "amount > 1")
    with pytest.raises(ConfigError) as caught:
        compiled(text, str(tmp_path / "p.yaml"))
    assert message in str(caught.value)
    assert caught.value.place is not None
