"""Any right pipeline compiles, whatever the order of its features; its steps read only what is there."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.plan import replay_steps
from streamproc.language import explain
from tests.language.helpers import BASE, compiled

HEAD = BASE.split("features:")[0]
FIELDS = ["amount", "price"]
DURATIONS = ["1s", "30s", "1m", "5m", "1h", "24h", "7d"]
KEYS = ["card_id", "country"]


@st.composite
def expressions(draw: st.DrawFn, known: list[str]) -> str:
    """A number made of known columns."""
    one, other = draw(st.sampled_from(known)), draw(st.sampled_from(known))
    shape = draw(
        st.sampled_from(
            [
                "{0} + {1}",
                "{0} / {1}",
                "previous({0}) - {1}",
                "previous({0}, 3) / {1}",
                "previous({0} + {1})",
                "coalesce({0} * 2, 0)",
                "case when {0} > {1} then 1 else 0 end",
                "hour(event_time) + abs({0})",
            ]
        )
    )
    return shape.format(one, other)


@st.composite
def groups(draw: st.DrawFn, name: str, known: list[str]) -> tuple[str, list[str]]:
    """A group of windows, and the numbers that it makes."""
    aggregates = draw(
        st.lists(st.sampled_from(["count", "sum", "mean", "min", "max", "stddev"]), min_size=1, unique=True)
    )
    over = draw(st.lists(st.sampled_from(DURATIONS), min_size=1, max_size=3, unique=True))
    parts = [f"of: {draw(st.sampled_from(['amount', 'amount * 2']))}", f"aggregates: [{', '.join(aggregates)}]"]
    parts.append(f"over: [{', '.join(over)}]")
    if draw(st.booleans()):
        parts.append(f"where: '{draw(expressions(known))} > 1'")
    if draw(st.booleans()):
        parts.append(f"delay: {draw(st.sampled_from(DURATIONS))}")
    if draw(st.booleans()):
        parts.append(f"per: {draw(st.sampled_from(KEYS))}")
    return f"{{{', '.join(parts)}}}", [f"{name}_{a}_{o}" for o in over for a in aggregates]


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[str, int]:
    """A pipeline's text and the number of its feature columns."""
    known = list(FIELDS)
    lines: list[str] = []
    columns = 0
    for number in range(draw(st.integers(1, 8))):
        name = f"f{number}"
        if draw(st.booleans()):
            lines.append(f'  {name}: "{draw(expressions(known))}"')
            made = [name]
        else:
            text, made = draw(groups(name, known))
            lines.append(f"  {name}: {text}")
        known += made
        columns += len(made)
    lines = draw(st.permutations(lines))
    rules = [
        f'  - {{id: r{i}, when: "{draw(expressions(known))} > 3", then: review}}'
        for i in range(draw(st.integers(0, 3)))
    ]
    return "\n".join([f"{HEAD}features:", *lines, "rules:", *rules, ""]), columns


@settings(max_examples=60, deadline=None)
@given(pipelines())
def test_a_right_pipeline_compiles(case: tuple[str, int]) -> None:
    text, columns = case
    plan = compiled(text)
    assert len(plan.features) == columns
    present = {field.name for field in plan.stream.fields}
    for step in plan.steps:
        assert present.issuperset(step.inputs)
        made = [field.name for field in step.outputs]
        assert present.isdisjoint(made)
        present.update(made)
    silent = {id(step) for step in replay_steps(plan.steps)}
    positions = [id(step) in silent for step in plan.steps]
    assert positions == sorted(positions, reverse=True), "what a replay runs comes first"
    assert compiled(text).state_fingerprint == plan.state_fingerprint
    assert explain(plan)
