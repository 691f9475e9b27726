"""Champion, challenger and shadows: who scores which row, against scores by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from models.absent import or_absent
from models.registry import open_registry
from operators.batch import Batch, Column, TaskRows
from operators.operator import OperatorContext, OutputField
from operators.schema import DataType, Kind
from operators.served_score import ServedScoreOperator, ShadowBudget
from operators.serving import RegisteredModel, Roles, ServedModel, before, changed, roles_of_row, row_of_roles
from state.errors import ConfigError
from tests.models.registered import by_hand, register
from tests.operators.samples import column

NO_CONTEXT = cast("OperatorContext", None)
FEATURES = ("amount", "n")
WEIGHTS = ({"amount": 0.5, "n": 1.0}, {"n": -1.0, "amount": 0.25}, {"n": 2.0})
"""The second takes the features in another order, the third fewer of them."""
CARD = OutputField("card", DataType(Kind.STRING))


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for number, weights in enumerate(WEIGHTS, 1):
        assert register(tmp_path / "reg", "fraud", weights) == number
    return tmp_path / "reg"


def served(registry: Path, roles: Roles) -> ServedModel:
    return ServedModel("fraud", FEATURES, lambda n: open_registry(str(registry)).model("fraud", n), roles)


def operator(model: ServedModel, shadow_seconds: float = 0.0) -> ServedScoreOperator:
    return ServedScoreOperator(model, FEATURES, {"low": 0, "high": 50}, CARD, shadow_seconds)


def rows(size: int, late: list[bool] | None = None) -> Batch:
    columns = {
        "amount": column("decimal(2)", [100 + 10 * n for n in range(size)]),
        "n": column("int64", [n % 5 - 2 for n in range(size)]),
        "card": column("string", [f"c{n}" for n in range(size)]),
    }
    given = None if late is None else np.array(late)
    return Batch(
        size, (TaskRows(0, 0, size),), np.zeros(size, np.int64), [f"c{n}" for n in range(size)], columns, late=given
    )


def wanted(version: int, n: int) -> float:
    return by_hand(WEIGHTS[version - 1], {"amount": (100 + 10 * n) / 100, "n": n % 5 - 2})


def of(batch: Batch, kind: str) -> list[Any]:
    _, values, valid = batch.columns[f"fraud.{kind}"]
    return [value if valid is None or valid[n] else None for n, value in enumerate(values.tolist())]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_champion_scores_all_by_the_features_it_was_trained_with(registry: Path, version: int) -> None:
    batch = rows(7)
    operator(served(registry, Roles(version))).process(batch, NO_CONTEXT)
    np.testing.assert_allclose(of(batch, "score"), [wanted(version, n) for n in range(7)], rtol=1e-5)
    assert of(batch, "version") == [version] * 7
    assert of(batch, "shadows") == [None] * 7
    assert of(batch, "tier") == ["high" if wanted(version, n) >= 50 else "low" for n in range(7)]


def test_a_challenger_has_its_share_of_the_cards_and_always_the_same(registry: Path) -> None:
    batch = rows(4000)
    step = operator(served(registry, Roles(1, 2, 0.1)))
    step.process(batch, NO_CONTEXT)
    versions = of(batch, "version")
    np.testing.assert_allclose(of(batch, "score"), [wanted(v, n) for n, v in enumerate(versions)], rtol=1e-5)
    assert 340 < versions.count(2) < 460  # 400 and three standard deviations
    again = rows(4000)
    operator(served(registry, Roles(1, 2, 0.2))).process(again, NO_CONTEXT)
    assert all(new == 2 for old, new in zip(versions, of(again, "version"), strict=True) if old == 2)
    alone = rows(1)
    step.process(alone, NO_CONTEXT)
    assert of(alone, "version") == versions[:1]


def test_what_is_opened_while_versions_warm_up_is_warm_too(registry: Path) -> None:
    """A worker does the one in a thread, the other in that of its tables."""
    warm: list[int] = []

    def opened(number: int) -> RegisteredModel:
        if number == 3:  # the second has just been opened
            model.warm_up()
        found = open_registry(str(registry)).model("fraud", number)
        found.warm_up = lambda: warm.append(number)  # type: ignore[method-assign]
        return found

    model = ServedModel("fraud", FEATURES, opened, Roles(1))
    assert model.prepare({"fraud": [row_of_roles("fraud", Roles(2, shadows=(3,)), Roles(1))]}) is None
    assert set(warm) == {1, 2, 3}


def test_which_cards_a_challenger_has_stays_so_for_ever(registry: Path) -> None:
    model = served(registry, Roles(1, 2, 0.25))
    mine = np.flatnonzero(model.challenged([f"c{n}" for n in range(400)])).tolist()
    assert mine == [n for n in range(400) if xxhash.xxh3_64_intdigest(f"fraud\0c{n}".encode()) % 10_000 < 2_500]
    assert mine[:6] == [0, 2, 8, 13, 15, 17]


def test_shadows_score_all_and_change_nothing(registry: Path) -> None:
    alone, beside = rows(6), rows(6)
    operator(served(registry, Roles(1))).process(alone, NO_CONTEXT)
    operator(served(registry, Roles(1, shadows=(2, 3)))).process(beside, NO_CONTEXT)
    assert [of(alone, kind) for kind in ("score", "tier", "version")] == [
        of(beside, kind) for kind in ("score", "tier", "version")
    ]
    for n, text in enumerate(of(beside, "shadows")):
        said = {str(version): pytest.approx(wanted(version, n), abs=1e-3) for version in (2, 3)}
        assert json.loads(text) == said


def test_rows_past_their_deadline_are_scored_by_nobody_and_shadows_wait(registry: Path) -> None:
    batch = rows(3, [False, True, False])
    operator(served(registry, Roles(1, 2, 1.0, (3,)))).process(batch, NO_CONTEXT)
    assert of(batch, "version") == [2, None, 2]
    assert of(batch, "failed") == [False, None, False]
    assert of(batch, "shadows") == [None] * 3


def test_a_shadow_that_fails_says_nothing(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = served(registry, Roles(1, shadows=(2, 3)))
    monkeypatch.setattr(model.lineup.shadows[0].model, "score", lambda matrix: np.full(len(matrix), np.nan))
    batch = rows(2)
    operator(model).process(batch, NO_CONTEXT)
    assert [json.loads(text) for text in of(batch, "shadows")] == [
        {"2": None, "3": pytest.approx(wanted(3, n), abs=1e-3)} for n in range(2)
    ]


def test_a_shadow_that_would_take_too_long_is_not_asked_the_last_one_first(registry: Path) -> None:
    step = operator(served(registry, Roles(1, shadows=(2, 3))), shadow_seconds=0.010)
    times = iter([0.0, 0.004, 0.008, *[float(n) for n in range(1, 99)]])  # each takes 4 ms for 4 rows: 1 ms a row
    step.budget.clock = lambda: next(times)
    first, more, many = rows(4), rows(8), rows(40)
    step.process(first, NO_CONTEXT)
    assert json.loads(of(first, "shadows")[0]).keys() == {"2", "3"}
    step.budget.clock = lambda: 0.0  # what a row costs is known, and stays about so
    step.budget.took(2, 4, 0.004)
    step.budget.took(3, 4, 0.004)
    step.process(many, NO_CONTEXT)
    assert of(many, "shadows") == [None] * 40
    assert step.budget.shed == {2: 40, 3: 40}
    step.process(more, NO_CONTEXT)
    assert json.loads(of(more, "shadows")[0]).keys() == {"2", "3"}  # 8 ms each, on a clock that stands still


def asked(budget: ShadowBudget, rows: int, seconds: float, batches: int) -> list[bool]:
    """Whether a shadow was asked, by batch, where so many rows take it so long."""
    found = []
    for _ in range(batches):
        found.append(budget.allows(2, rows, 0.0))
        if found[-1]:
            budget.took(2, rows, seconds)
    return found


def test_a_shadow_that_was_slow_once_is_asked_again() -> None:
    """Batches of one row cost most a row, and any may be held up: full ones would be within the budget."""
    budget = ShadowBudget(0.005)
    budget.clock = lambda: 0.0
    assert all(asked(budget, 1, 0.00005, 50))
    assert any(asked(budget, 512, 0.002, 200)[-20:])
    budget.took(2, 1, 0.040)
    assert all(asked(budget, 1, 0.00005, 400)[-50:])


def test_a_shadow_that_is_too_slow_is_asked_now_and_then_only() -> None:
    budget = ShadowBudget(0.005)
    budget.clock = lambda: 0.0
    assert 1 <= sum(asked(budget, 512, 0.020, 700)) <= 12
    assert budget.shed[2] >= 688 * 512


def test_roles_change_where_they_are_applied(registry: Path) -> None:
    model = served(registry, Roles(1))
    step, batch = operator(model), rows(2)
    assert model.prepare({"fraud": [row_of_roles("fraud", Roles(3), Roles(1))]}) is None
    step.process(batch, NO_CONTEXT)
    assert of(batch, "version") == [1, 1]
    model.apply()
    step.process(batch, NO_CONTEXT)
    assert of(batch, "version") == [3, 3]
    assert model.prepare({}) is None  # its record is gone: what the file says
    model.apply()
    assert model.lineup.roles == Roles(1)


def test_what_cannot_be_opened_changes_nothing_and_says_why(registry: Path) -> None:
    model = served(registry, Roles(1))
    for row in (
        {"champion": 9}, {"champion": 2, "challenger": 3}, {"champion": 0}, {"champion": 1, "shadows": "x"}, {},
        {"champion": 1, "shadows": "9" * 5000},
    ):  # fmt: skip
        said = model.prepare({"fraud": [row]})
        assert said is not None
        assert said.startswith("model fraud: ")
        model.apply()
        assert model.lineup.roles == Roles(1)
    register(registry, "fraud", {"speed": 1.0})
    said = model.prepare({"fraud": [{"champion": 4}]})
    assert said is not None
    assert "was trained with speed, which the pipeline does not give it" in said
    content = registry / "fraud" / "2" / "model.onnx"
    content.write_bytes(content.read_bytes()[:-1] + b"!")
    said = model.prepare({"fraud": [{"champion": 2}]})
    assert said is not None
    assert "SHA-256 differs" in said


def test_a_version_that_was_absent_is_looked_for_again(registry: Path) -> None:
    fraud = registry / "fraud"
    (fraud / "1").rename(fraud / "gone")
    opened = or_absent(lambda n: open_registry(str(registry)).model("fraud", n))
    model = ServedModel("fraud", FEATURES, opened, Roles(1, 2, 0.5))
    batch = rows(20)
    operator(model).process(batch, NO_CONTEXT)
    assert {(version, failed) for version, failed in zip(of(batch, "version"), of(batch, "failed"), strict=True)} == {
        (None, True), (2, False),
    }  # fmt: skip
    said = model.prepare({"fraud": [row_of_roles("fraud", Roles(1), Roles(1))]})
    assert said is not None
    assert "there is no version 1" in said
    (fraud / "gone").rename(fraud / "1")
    assert model.prepare({"fraud": [row_of_roles("fraud", Roles(1), Roles(1))]}) is None
    model.apply()
    operator(model).process(batch, NO_CONTEXT)
    assert of(batch, "version") == [1] * 20


def test_what_the_file_names_is_looked_for_again_too(registry: Path) -> None:
    fraud = registry / "fraud"
    for version in "12":
        (fraud / version).rename(fraud / f"gone{version}")
    opened = or_absent(lambda n: open_registry(str(registry)).model("fraud", n))
    model = ServedModel("fraud", FEATURES, opened, Roles(1, 2, 0.5))
    (fraud / "gone2").rename(fraud / "2")
    said = model.prepare({})
    assert said is not None
    assert "there is no version 1" in said
    model.apply()
    assert model.lineup.challenger is not None
    assert model.lineup.challenger.model.digest != "0" * 64  # the one that is there again has not to wait for the other
    (fraud / "gone1").rename(fraud / "1")
    assert model.prepare({}) is None
    model.apply()
    assert model.lineup.missing is None


ROLES = st.builds(
    lambda champion, rival, share, shadows: Roles(
        champion, rival, share if rival is not None else 0.0, tuple(dict.fromkeys(shadows))
    ),
    st.integers(1, 5), st.none() | st.integers(1, 5), st.floats(0.0001, 1), st.lists(st.integers(1, 9), max_size=4),
)  # fmt: skip


@given(ROLES, ROLES)
def test_roles_come_back_from_their_record(roles: Roles, old: Roles) -> None:
    row = row_of_roles("fraud", roles, old)
    assert roles_of_row(row) == roles
    assert before(row) == old


@given(ROLES, st.integers(1, 9), st.sampled_from(["champion", "challenger", "shadow", "none"]))
def test_a_version_has_one_role(roles: Roles, version: int, role: str) -> None:
    if role != "champion" and version == roles.champion:
        with pytest.raises(ConfigError, match="make another one the champion first"):
            changed(roles, version, role, 0.5)
        return
    new = changed(roles, version, role, 0.5)
    has = {
        "champion": new.champion == version, "challenger": new.challenger == version, "shadow": version in new.shadows,
    }  # fmt: skip
    assert [name for name, it in has.items() if it] == ([] if role == "none" else [role])
    assert (new.challenger is None) == (new.share == 0)


def test_a_share_by_a_column_that_is_no_text_and_no_number(registry: Path) -> None:
    with pytest.raises(ConfigError, match=r"by: rate is float64, not string or int64"):
        ServedScoreOperator(served(registry, Roles(1)), FEATURES, {}, OutputField("rate", DataType(Kind.FLOAT64)), 0.0)


def test_whole_numbers_are_keys_too_and_nulls_are_all_alike(registry: Path) -> None:
    model = served(registry, Roles(1, 2, 0.5))
    step = ServedScoreOperator(model, FEATURES, {}, OutputField("card", DataType(Kind.INT64)), 0.0)
    batch = rows(60)
    batch.columns["card"] = Column(DataType(Kind.INT64), np.arange(60) % 30, np.arange(60) >= 30)
    step.process(batch, NO_CONTEXT)
    versions = of(batch, "version")
    assert len(set(versions[:30])) == 1
    assert versions[30:] == [1 + mine for mine in model.challenged([str(n) for n in range(30)]).tolist()]
