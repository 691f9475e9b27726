"""All features of the shipped pipeline, three stages over five entities, against plain SQL over the same file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from streamproc.language import compile_stages, load_pipeline
from streamproc.services.generator import GeneratorOptions, generate, write_parquet
from tests.cli.conftest import finish
from tests.language.helpers import FakeModel

PIPELINE = Path(__file__).parents[2] / "configs" / "card_fraud" / "pipeline.yaml"
SQL = Path(__file__).with_name("card_fraud.sql").read_text()
PLANS = compile_stages(load_pipeline(PIPELINE), models=FakeModel)
NAMES = tuple(field.name for plan in PLANS for field in plan.features)
EVENTS = 6_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One row a payment: `found` by the pipeline, `wanted` by SQL."""
    folder = tmp_path_factory.mktemp("card_fraud")
    payments, decided = folder / "transactions.parquet", folder / "decided.parquet"
    write_parquet(generate(GeneratorOptions(events=EVENTS, seed=11, start_ms=1_767_225_600_000)), payments)
    ran = finish("backtest", PIPELINE, "--input", payments, "--output", decided)
    assert ran.code == 0, ran.err
    found = pq.read_table(decided).to_pylist()
    with duckdb.connect() as db:
        db.execute(f"create table payments as select *, row_number() over () as n from '{payments}'")
        done = db.execute(SQL.replace("{lists}", str(PIPELINE.parent / "lists")))
        names = [column[0] for column in done.description]
        wanted = [dict(zip(names, row, strict=True)) for row in done.fetchall()]
    return [{"found": a, "wanted": b} for a, b in zip(found, wanted, strict=True)]


def test_there_are_enough_features_and_payments(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == EVENTS
    assert len(NAMES) == len(set(NAMES)) >= 60
    assert set(rows[0]["wanted"]) == {*NAMES, "transaction_id"}, "SQL knows each of them"
    assert [row["found"]["transaction_id"] for row in rows] == [row["wanted"]["transaction_id"] for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_is_what_sql_says(name: str, rows: list[dict[str, Any]]) -> None:
    wrong = [
        (row["found"]["transaction_id"], row["found"][name], row["wanted"][name])
        for row in rows
        if not equal(row["found"][name], row["wanted"][name])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_says_something(name: str, rows: list[dict[str, Any]]) -> None:
    """Else its equality would, too."""
    assert len({row["wanted"][name] for row in rows}) > 1


def equal(found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is None and wanted is None
    if isinstance(found, float) or isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-6)
    return bool(found == wanted)
