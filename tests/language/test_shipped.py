"""The pipelines that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.decide import RuleDecider
from operators.decode import RecordDecoder
from operators.encode import DecisionEncoder
from operators.expressions import ExpressionOperator
from operators.patterns.operator import PatternOperator
from operators.windows.operator import WindowOperator
from streamproc.language import compile_pipeline, compile_stages, explain, load_pipeline
from tests.language.helpers import CONFIGS, FakeModel

BENCH = ["amount", "n_5m", "s_5m", "n_1h", "s_1h", "n_24h", "s_24h", "n_30s", "speed_kmh", "hour"]
SHIPPED = sorted(CONFIGS.glob("*/*.yaml"))


def test_there_are_pipelines() -> None:
    assert len(SHIPPED) >= 4


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shipped_pipeline_compiles(path: Path) -> None:
    for plan in compile_stages(load_pipeline(path), models=FakeModel):
        assert plan.pipeline in explain(plan)
        types = {field.name: field.type for field in plan.stream.fields}
        types |= {field.name: field.type for step in plan.steps for field in step.outputs}
        RecordDecoder(plan.stream)
        RuleDecider(plan.rules, plan.decision)
        DecisionEncoder(plan.stream, plan.decision, types)


@pytest.mark.parametrize(("file", "rules"), [("pipeline", 4), ("pipeline_model", 5)])
def test_the_benchmark_has_its_features_and_rules(file: str, rules: int) -> None:
    plan = compile_pipeline(load_pipeline(CONFIGS / "bench_v1" / f"{file}.yaml"), models=FakeModel)
    assert [field.name for field in plan.features] == BENCH
    ids = ["testing", "velocity_30s", "speed", "spend_24h", "score"][:rules]
    assert [rule.id for rule in plan.rules][:rules] == ids
    assert [rule.reason for rule in plan.rules][:rules] == ids
    assert [rule.id for rule in plan.rules][rules:] == (["no_score"] if rules == 5 else [])
    assert plan.decision.include == (*BENCH, "ts")
    assert plan.decision.score == ("fraud.score" if rules == 5 else None)


def test_the_benchmark_takes_two_steps_without_a_model() -> None:
    """One window operator, one expression operator: a third step would be paid for at every batch."""
    plan = compile_pipeline(load_pipeline(CONFIGS / "bench_v1" / "pipeline.yaml"))
    windows, expressions = plan.steps
    assert isinstance(windows, WindowOperator)
    assert [feature.name for feature in windows.spec.features] == BENCH[1:8]
    assert [(p.of, p.n) for p in windows.spec.previous] == [
        ("lat", 1),
        ("lon", 1),
        ("event_time", 1),
        ("amount", 1),
        ("amount", 2),
        ("amount", 3),
        ("event_time", 3),
    ]
    assert isinstance(expressions, ExpressionOperator)
    assert [name for name, _ in expressions.expressions] == [
        "speed_kmh",
        "hour",
        "rule:testing",
        "rule:velocity_30s",
        "rule:speed",
        "rule:spend_24h",
    ]


def test_with_a_model_only_what_reads_the_score_comes_after_it() -> None:
    plan = compile_pipeline(load_pipeline(CONFIGS / "bench_v1" / "pipeline_model.yaml"), models=FakeModel)
    assert [type(step).__name__ for step in plan.steps] == [
        "WindowOperator",
        "ExpressionOperator",
        "ScoreOperator",
        "ExpressionOperator",
    ]
    assert [field.name for field in plan.steps[3].outputs] == ["rule:no_score", "score", "rule:score"]


def test_the_handbook_has_the_golden_names() -> None:
    days = ("1day", "7day", "30day")
    customer, terminal = compile_stages(load_pipeline(CONFIGS / "handbook" / "pipeline.yaml"))
    assert (customer.stage, terminal.stage) == ("customer", "terminal")
    assert terminal.decision.include == (
        "tx_during_weekend",
        "tx_during_night",
        *(f"customer_id_{what}_{day}_window" for day in days for what in ("nb_tx", "avg_amount")),
        *(f"terminal_id_{what}_{day}_window" for day in days for what in ("nb_tx", "risk")),
    )


def test_card_fraud_shows_what_there_is() -> None:
    pipeline = load_pipeline(CONFIGS / "card_fraud" / "pipeline.yaml")
    model = pipeline.models["fraud"]
    assert set(model.describe) == set(model.features), "each is described to analysts"
    plans = compile_stages(pipeline, models=FakeModel)
    assert sum(len(plan.features) for plan in plans) == 97
    last = plans[-1]
    assert len(last.rules) == 40 + 1  # the last comes with the model
    assert [rule.id for rule in last.rules if rule.reason == rule.id] == [], "each has its reason"
    assert [rule.id for rule in last.rules if rule.final] == ["blocked_card", "trusted_merchant"]
    assert [rule.id for rule in last.rules if rule.shadow] == ["night_abroad", "address_abroad"]
    assert last.topics.side == {"high_risk": "card_fraud.high_risk"}
    keys = [{step.spec.key for step in plan.steps if isinstance(step, WindowOperator)} for plan in plans]
    assert keys == [{"merchant_id", "terminal_id", "address_at_merchant"}, {"device_id"}, {"card_id", "user_id"}]
    steps = [[step for step in plan.steps if isinstance(step, PatternOperator)] for plan in plans]
    sequences = [sorted(spec.name for step in mine for spec in step.specs) for mine in steps]
    assert [len(names) for names in sequences] == [1, 0, 7]
    assert {rule.id for rule in last.rules} >= {name for names in sequences for name in names}


def test_card_fraud_has_a_page_that_names_every_feature_and_rule() -> None:
    plans = compile_stages(load_pipeline(CONFIGS / "card_fraud" / "pipeline.yaml"), models=FakeModel)
    text = (CONFIGS.parent / "docs" / "card-fraud.md").read_text()
    rows = [line.split("|")[1] for line in text.partition("## Features")[2].splitlines() if line.startswith("| `")]
    named = [name for cell in rows for name in cell.strip("` ").split("`, `")]
    features = [field.name for plan in plans for field in plan.features]
    assert sorted(named) == sorted([*features, *(rule.id for rule in plans[-1].rules)])
