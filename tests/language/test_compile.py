"""From a pipeline to steps: order, sharing, keys, fingerprints."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.expressions import ExpressionOperator
from operators.plan import Plan, replay_steps
from operators.windows.operator import WindowOperator
from operators.windows.spec import WindowSpec
from tests.language.helpers import BASE, changed, compiled, compiled_stages


def specs(plan: Plan) -> list[WindowSpec]:
    return [step.spec for step in plan.steps if isinstance(step, WindowOperator)]


def shape(plan: Plan) -> list[str]:
    return [type(step).__name__.removesuffix("Operator") for step in plan.steps]


def features(*lines: str) -> str:
    return changed(("  jump: amount / previous(amount)\n", "".join(f"  {line}\n" for line in lines)), (", jump", ""))


def test_features_may_refer_to_later_ones() -> None:
    plan = compiled(features("a: b + 1", "b: c * 2", "c: spend_sum_1m - 1"))
    assert shape(plan) == ["Window", "Expression"]
    assert [field.name for field in plan.features][-3:] == ["a", "b", "c"]


def test_equal_calls_share_a_column() -> None:
    plan = compiled(features("a: previous(amount) + 1", "b: amount - PREVIOUS( amount )", "c: previous(amount, 2)"))
    assert [(p.name, p.n) for p in specs(plan)[0].previous] == [("_previous_1_amount", 1), ("_previous_2_amount", 2)]


@pytest.mark.parametrize(
    ("condition", "warned"),
    [
        ("amount = NULL", 1), ("n > 1 and (null) <> card_id", 1), ("CASE WHEN amount < NULL THEN true END", 1),
        ("amount IS NULL", 0), ("card_id IS DISTINCT FROM NULL", 0), ("card_id = 'NULL'", 0),
    ],
)  # fmt: skip
def test_comparing_with_the_word_null_is_warned_of(condition: str, warned: int) -> None:
    plan = compiled(features("n: {count: '*', over: 5m}", f"odd: {condition}"))
    assert [line.split(": ", 1)[1] for line in plan.warnings] == [
        "a comparison with NULL is never true (x IS NULL)"
    ] * warned


def test_computed_arguments_come_before_the_windows() -> None:
    plan = compiled(
        features(
            "w: {sum: amount * 2, over: 1m, where: country = 'FR'}",
            "x: {max: amount * 2, over: 5m, where: country = 'FR'}",
            "y: previous(amount * 2)",
        )
    )
    assert shape(plan) == ["Expression", "Window", "Expression"]
    assert len(plan.steps[0].outputs) == 2
    assert replay_steps(plan.steps) == plan.steps[:2]


def test_windows_over_windows_take_another_level() -> None:
    plan = compiled(features("w: {count: '*', over: 1m, where: spend_count_1m > 3}"))
    assert shape(plan) == ["Window", "Expression", "Window", "Expression"]
    assert [spec.name for spec in specs(plan)] == ["card_id", "card_id_2"]


def test_a_feature_may_have_a_key_of_its_own() -> None:
    plan = compiled(
        features("c: {count: '*', over: 1m, per: country}", "d: {expression: previous(amount), per: country}")
    )
    assert [spec.key for spec in specs(plan)] == ["card_id", "country"]
    assert [p.name for p in specs(plan)[1].previous] == ["_previous_1_amount_by_country"]


def test_a_whole_number_key_becomes_text() -> None:
    plan = compiled(changed(("card_id: string", "card_id: int64")))
    assert shape(plan) == ["Expression", "Window", "Expression"]
    assert specs(plan)[0].key == "_key_card_id"
    assert specs(plan)[0].name == "card_id"


def test_names_of_a_group() -> None:
    plan = compiled(features("g: {of: amount, aggregates: {count: n, sum: s}, over: {1d: day, 7d: week}}"))
    assert [field.name for field in plan.features][-4:] == ["g_n_day", "g_s_day", "g_n_week", "g_s_week"]


def test_delay_precision_and_ttl_arrive() -> None:
    text = features("d: {count: '*', over: 30d, delay: 7d, precision: 1h}")
    plan = compiled(text.replace("features:", "ttl: 90d\nfeatures:"))
    assert specs(plan)[0].ttl_ms == 90 * 86_400_000
    made = specs(plan)[0].features[-1]
    assert (made.name, made.delay_ms, made.precision_ms) == ("d", 7 * 86_400_000, 3_600_000)


def test_first_seen_in_an_expression() -> None:
    plan = compiled(features("f: first_seen(country) or first_seen(country, '90d')"))
    assert [f.over_ms // 86_400_000 for f in specs(plan)[0].features[-2:]] == [30, 90]


def test_models_and_rules_are_the_last_stages() -> None:
    first = "stages:\n  - {name: country, partition_by: country, features: {n_1h: {count: '*', over: 1h}}}\n"
    text = BASE.replace(
        "partition_by: card_id\nfeatures:\n", f"{first}  - name: card\n    partition_by: card_id\n    features:\n"
    )
    text = text.replace("  spend: {of", "      spend: {of").replace("  jump: amount", "      jump: amount")
    plans = compiled_stages(f"{text}models: {{fraud: {{file: m.onnx, features: [amount, n_1h]}}}}\n")
    assert [plan.decision.score for plan in plans] == [None, "fraud.score"]
    assert [len(plan.rules) for plan in plans] == [0, 2]
    assert plans[0].decision_fingerprint != plans[1].decision_fingerprint


def test_a_stage_may_be_written_as_a_list() -> None:
    head, tail = BASE.split("partition_by:")
    stage, rules = tail.split("rules:")
    body = f"name: card\npartition_by:{stage}".rstrip().replace("\n", "\n    ")
    assert compiled(f"{head}stages:\n  - {body}\nrules:{rules}").state_fingerprint == compiled(BASE).state_fingerprint


def test_stream_options_arrive() -> None:
    plan = compiled(
        changed(
            (
                "    id: transaction_id\n",
                "    id: transaction_id\n    topic: in\n    deduplicate: 24h\n    max_ahead: 1h\n    extra: refuse\n",
            ),
            ("card_id: string", "card_id: {type: string, from: PAN, pan: true}"),
            ("pipeline: cards", "pipeline: cards\npartitions: 8\nretention: 7d\ntopics: {decisions: out}"),
        )
    )
    stream = plan.stream
    assert (stream.topic, stream.deduplicate_ms, stream.max_ahead_ms, stream.extra_refused) == (
        "in",
        86_400_000,
        3_600_000,
        True,
    )
    assert (stream.field("card_id").source, stream.field("card_id").pan) == ("PAN", True)
    assert plan.topic_partitions == 8
    assert plan.topic_config == {"retention.ms": str(7 * 86_400_000)}
    assert (plan.topics.decisions, plan.topics.journal) == ("out", "cards.journal")


def with_table(tmp_path: Path, csv: str, rule: str = "country in table(t)") -> Plan:
    (tmp_path / "t.csv").write_text(csv)
    text = changed(
        (
            "partition_by:",
            "tables:\n  t: {key: country, file: t.csv, columns: {low: decimal(2), n: int64}}\npartition_by:",
        ),
        ("spend_count_1m >= 5", f"'{rule}'"),
    )
    return compiled(text, str(tmp_path / "p.yaml"))


CSV = "country,low,n,comment\nFR,10.00,1,hello\nDE,12.50,,\n"


def test_a_table_is_read(tmp_path: Path) -> None:
    plan = with_table(tmp_path, CSV, "amount < table(t, country).low")
    step = plan.steps[-1]
    assert isinstance(step, ExpressionOperator)
    assert len(step.lookups["t"]) == 2


def test_comments_and_order_of_rows_are_not_contents(tmp_path: Path) -> None:
    first = with_table(tmp_path, CSV)
    same = with_table(tmp_path, "comment,country,n,low\nx,DE,,12.5\n\n,FR,1,10.00\n")
    other = with_table(tmp_path, CSV.replace("10.00", "10.01"))
    assert first.decision_fingerprint == same.decision_fingerprint != other.decision_fingerprint
    assert first.state_fingerprint == other.state_fingerprint


def test_a_table_that_state_reads_belongs_to_the_state(tmp_path: Path) -> None:
    rule = "previous(amount - table(t, country).low) > 0"
    first, other = with_table(tmp_path, CSV, rule), with_table(tmp_path, CSV.replace("10.00", "10.01"), rule)
    assert first.state_fingerprint != other.state_fingerprint


def test_layout_and_comments_do_not_change_fingerprints() -> None:
    lines = BASE.splitlines()
    at = lines.index("partition_by: card_id")
    reordered = "\n".join(["# a comment", *lines[at:], *lines[:at]])
    respelt = changed(("amount / previous(amount)", "amount/PREVIOUS(  amount, 1)"), ("[1m, 5m]", "[60s, 5m]"))
    respelt = respelt.replace("over: [60s, 5m]", "over: {60s: 1m, 5m: 5m}")
    for text in (reordered, respelt):
        assert compiled(text).state_fingerprint == compiled(BASE).state_fingerprint
        assert compiled(text).decision_fingerprint == compiled(BASE).decision_fingerprint


@pytest.mark.parametrize(
    "change",
    [
        ("card_id: string", "card_id: {type: string, from: c}"),
        ("[1m, 5m]", "[1m, 6m]"),
        ("amount / previous(amount)", "amount / previous(amount, 2)"),
        ("    id: transaction_id\n", "    id: transaction_id\n    deduplicate: 1h\n"),
        ("partition_by: card_id", "partition_by: card_id\nttl: 1d"),
        ("partition_by: card_id", "partition_by: card_id\npartitions: 8"),
        ("partition_by: card_id", "partition_by: country"),
        ("when: spend_count_1m >= 5", "when: previous(price) >= 5"),
    ],
)
def test_what_state_depends_on_changes_its_fingerprint(change: tuple[str, str]) -> None:
    assert compiled(changed(change)).state_fingerprint != compiled(BASE).state_fingerprint


@pytest.mark.parametrize(
    "change",
    [
        (">= 5", ">= 6"),
        ("then: decline", "then: review"),
        ("then: decline", "then: decline, mode: shadow"),
        ("then: decline", "then: decline, final: true"),
        ("then: decline", "then: decline, to: queue"),
        ("otherwise: approve", "otherwise: review"),
        ("include: [amount, jump]", "include: [amount]"),
    ],
)
def test_what_decides_changes_without_a_barrier(change: tuple[str, str]) -> None:
    plan, base = compiled(changed(change)), compiled(BASE)
    assert plan.decision_fingerprint != base.decision_fingerprint
    assert plan.state_fingerprint == base.state_fingerprint


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("", ()),
        (", include: amount", ("amount",)),
        (", include: []", ()),
        (", include: [jump, amount]", ("jump", "amount")),
    ],
)
def test_what_a_decision_includes(written: str, shown: tuple[str, ...]) -> None:
    assert compiled(changed((", include: [amount, jump]", written))).decision.include == shown


def test_a_pipeline_without_features_rules_or_decision() -> None:
    plan = compiled(BASE.split("features:")[0])
    assert (plan.steps, plan.features, plan.rules) == ((), (), ())
    assert plan.decision.severity == ("decline", "review", "challenge", "approve")


def test_short_names_of_the_score() -> None:
    text = changed(
        ("rules:\n", "models:\n  fraud: {file: f.onnx, features: [amount, jump], tiers: {low: 0, high: 50}}\nrules:\n"),
        ("spend_count_1m >= 5", "score > 90 and risk_tier = 'high' and fraud.score > 1"),
    )
    plan = compiled(text)
    assert (plan.decision.score, plan.decision.tier) == ("fraud.score", "fraud.tier")
    assert shape(plan) == ["Window", "Expression", "Score", "Expression"]
