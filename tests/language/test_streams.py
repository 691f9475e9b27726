"""Several streams of a pipeline: which rows a feature looks at, what is wrong, which stage a stream enters."""

from __future__ import annotations

import pytest

from operators.plan import STREAM, Plan
from operators.windows.operator import WindowOperator
from state.errors import ConfigError
from streamproc.language import compile_stages, read_pipeline
from tests.language.helpers import FakeModel

STREAMS = """\
pipeline: bank
streams:
  payments:
    id: payment_id
    event_time: at
    fields: {payment_id: string, card_id: string, user_id: string, amount: decimal(2), country: string, at: timestamp}
  logins:
    id: login_id
    event_time: logged_in_at
    fields: {login_id: string, user_id: string, outcome: string, country: string, logged_in_at: timestamp}
  changes:
    id: change_id
    event_time: changed_at
    fields: {change_id: string, user_id: string, field: string, changed_at: timestamp}
partition_by: user_id
"""
KEY = "partition_by: user_id\n"


def plans(text: str) -> tuple[Plan, ...]:
    return compile_stages(read_pipeline(text, "p.yaml"), models=FakeModel)


def with_features(*lines: str) -> Plan:
    (plan,) = plans(STREAMS + "features:\n" + "".join(f"  {line}\n" for line in lines))
    return plan


def filters(plan: Plan) -> dict[str, str]:
    """By feature, or earlier row's column: the condition that says which rows count."""
    conditions = {
        name: compiled.text if hasattr(compiled, "text") else name
        for step in plan.steps
        if not isinstance(step, WindowOperator)
        for name, compiled in getattr(step, "expressions", ())
    }
    found: dict[str, str] = {}
    for step in plan.steps:
        if isinstance(step, WindowOperator):
            found |= {f.name: conditions.get(f.where or "", "") for f in step.spec.features}
            found |= {p.of: conditions.get(p.where or "", "") for p in step.spec.previous}
    return found


def test_the_first_stream_is_decided_unless_decide_says() -> None:
    (plan,) = plans(STREAMS)
    assert (plan.stream.name, [other.name for other in plan.others]) == ("payments", ["logins", "changes"])
    (plan,) = plans(STREAMS + "decide: changes\n")
    assert (plan.stream.name, [other.name for other in plan.others]) == ("changes", ["payments", "logins"])


def test_what_a_feature_looks_at() -> None:
    plan = with_features(
        'n: {count: "*", over: 1h}',
        "countries: {distinct: country, over: 1h}",
        "spend: {sum: amount, over: 1h}",
        "failed: {count: '*', over: 10m, where: outcome = 'failed'}",
        "all_countries: {distinct: country, over: 2h, where: \"stream in ('payments', 'logins')\"}",
        "everything: {count: '*', over: 5m, where: stream is not null}",
        "jump: amount / previous(amount)",
        "since_change: minutes_since(previous(changed_at))",
        "users: {count: user_id, over: 3h}",
    )
    found = filters(plan)
    assert "payments" in found["n"]
    assert "payments" in found["countries"]  # logins have it, too: a stream that is added changes no feature
    assert found["spend"] == ""  # where there is no amount it is NULL
    assert "outcome_failed_and_stream_log" in found["failed"]
    assert "payments" not in found["all_countries"].replace("stream_in_payments_logins", "")
    assert "payments" in found["amount"]
    assert "changes" in found["changed_at"]
    assert "payments" in found["users"]


def test_calls_of_one_expression_look_at_the_same_rows() -> None:
    plan = with_features("speed: previous(amount) / hours_since(previous(logged_in_at))")
    found = filters(plan)  # no stream has both: each looks at its own
    assert "payments" in found["amount"]
    assert "logins" in found["logged_in_at"]


def test_one_stream_has_no_column_stream() -> None:
    head, _, rest = STREAMS.partition("  logins:")
    text = head + rest[rest.index("partition_by") :]
    (plan,) = plans(text)
    assert plan.others == ()
    with pytest.raises(ConfigError, match="unknown column 'stream'"):
        plans(text + "features: {n: {count: '*', over: 1h, where: stream = 'payments'}}\n")


def test_a_name_that_seems_to_lead_into_an_object_is_warned_of() -> None:
    chain = "stages:\n  - {name: user, partition_by: user_id}\n  - {name: card, partition_by: card_id}\n"
    first, last = plans(
        STREAMS.replace(KEY, chain).replace("outcome: string", "outcome: {type: string, from: o.result}")
    )
    (told,) = first.warnings
    assert told.startswith("p.yaml:10:58: from: o.result is one name in the record")
    assert last.warnings == ()


def test_adding_a_stream_changes_the_state_fingerprint_and_its_wait_does_not() -> None:
    (plan,) = plans(STREAMS)
    (slower,) = plans(STREAMS.replace("    id: login_id\n", "    id: login_id\n    wait: 5s\n"))
    assert slower.others[0].wait_ms == 5_000
    assert slower.state_fingerprint == plan.state_fingerprint
    (fewer,) = plans(STREAMS[: STREAMS.index("  changes:")] + "partition_by: user_id\n")
    assert fewer.state_fingerprint != plan.state_fingerprint


def test_the_union_is_nullable_where_a_stream_lacks_a_column() -> None:
    (plan,) = plans(STREAMS + "features: {amount: amount, user: user_id, which: stream}\n")
    assert {f.name: f.nullable for f in plan.features} == {"amount": True, "user": False, "which": False}
    assert STREAM == "stream"


STAGES = (
    STREAMS.replace("partition_by: user_id\n", "")
    + """\
stages:
  - {name: card, partition_by: card_id, features: {n_card: {count: "*", over: 1h}}}
  - {name: user, partition_by: user_id, features: {n_user: {count: "*", over: 1h, where: outcome = 'failed'}}}
"""
)


def test_a_stream_enters_the_first_stage_that_is_keyed_by_one_of_its_fields() -> None:
    card, user = plans(STAGES)
    assert [stream.name for stream in card.streams] == ["payments"]
    assert [stream.topic for stream in user.streams] == ["bank.user", "bank.logins", "bank.changes"]


def test_or_the_one_it_names() -> None:
    text = STAGES.replace("login_id: string, user_id", "login_id: string, card_id: string, user_id")
    text = text.replace(", where: outcome = 'failed'", "")
    assert [stream.name for stream in plans(text)[0].others] == ["logins"]
    named = text.replace("    id: login_id\n", "    id: login_id\n    stage: user\n")
    assert [[stream.name for stream in plan.others] for plan in plans(named)] == [[], ["logins", "changes"]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("outcome: string", "outcome: string, amount: float64",
         "p.yaml:10:74: amount is float64 in logins and decimal(2) in payments (line 6): a column has one type"
         " (give one of them another name: logins_amount: {type: ..., from: amount})"),
        ("outcome: string", "stream: string",
         "`stream` says which stream a row is of, where there are several (call it otherwise: stream_:"),
        ("login_id: string, user_id: string", "login_id: string, user: string",
         "p.yaml:8:5: stream logins has no field user_id: it would not be known which partition a row belongs to"),
        ("    id: login_id\n", "    id: login_id\n    stage: mian\n",
         "p.yaml:9:12: stream logins: there is no stage 'mian' (did you mean main?)"),
        ("partition_by: user_id\n", "partition_by: user_id\ndecide: payment\n",
         "p.yaml:16:9: decide: there is no stream 'payment' (did you mean payments?)"),
        ("    id: login_id\n", "    id: login_id\n    topic: bank.payments\n",
         "topic bank.payments is the stream payments's topic too (give each its own)"),
        (KEY, KEY + "features: {n: {count: '*', over: 1h, where: amount > 1 and outcome = 'x'}}\n",
         "no stream has all of amount, outcome (where: stream in ('payments', 'logins', 'changes') looks at the rows"),
        (KEY, KEY + "features: {n: {count: outcome, over: 1h, per: card_id}}\n",
         "rows of logins have no card_id (per: country, user_id)"),
        (KEY, KEY + "features: {x: {expression: amount * 2, where: amount > 1}}\n",
         "x: where: without previous() or first_seen() (it says which earlier rows these look at)"),
        (KEY, KEY + "features: {x: {expression: previous(amount), where: amount}}\n",
         "p.yaml:16:53: a bool (a condition) is wanted here, not decimal(2)"),
    ],
)  # fmt: skip
def test_errors_say_what_and_where(old: str, new: str, said: str) -> None:
    assert STREAMS.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        plans(STREAMS.replace(old, new))
    assert said in str(caught.value)


def test_a_stage_must_not_be_called_like_another_topic() -> None:
    with pytest.raises(ConfigError, match=r"stage logins: bank\.logins is the stream logins's topic too"):
        plans(STAGES.replace("name: user,", "name: logins,"))
    with pytest.raises(ConfigError, match=r"stage journal: bank\.journal is the journal topic too"):
        plans(STAGES.replace("name: user,", "name: journal,"))
