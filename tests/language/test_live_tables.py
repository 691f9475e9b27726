"""Tables with a topic: where they may be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.errors import ConfigError
from streamproc.language import compile_pipeline, load_pipeline

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, shop: string, amount: decimal(2), at: timestamp}
partition_by: card
tables:
  blocked: {key: shop, file: blocked.csv, topic: shop.blocked}
  fixed: {key: shop, file: fixed.csv}
features:
  listed: shop in table(blocked)
  by: table(blocked, shop).added_by
FEATURE
rules:
  - {id: listed, when: listed, then: decline}
decision: {severity: [decline, approve], otherwise: approve}
"""


def compiled(folder: Path, feature: str, row: str = "s1") -> object:
    (folder / "blocked.csv").write_text(f"shop\n{row}\n")
    (folder / "fixed.csv").write_text("shop,expires,added_by\n")
    path = folder / "shop.yaml"
    path.write_text(PIPELINE.replace("FEATURE", "  " + feature))
    return compile_pipeline(load_pipeline(path))


@pytest.mark.parametrize(
    "feature",
    [
        'bad: {count: "*", over: 1h, where: shop in table(blocked)}',
        "bad: {of: amount, aggregates: [sum], over: [1h], where: listed}",
        "bad: previous(table(blocked, shop).expires)",
        "bad: {expression: previous(amount), where: shop in table(blocked)}",
        "bad: {distinct: by, over: 1h}",
        'one: not listed\n  two: not one\n  bad: {count: "*", over: 1h, where: two}',
    ],
)
def test_what_looks_back_cannot_read_them(tmp_path: Path, feature: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(tmp_path, feature)
    assert "cannot read the table blocked: it has a topic, and changes while the pipeline runs" in str(caught.value)
    assert caught.value.place is not None
    line = (tmp_path / "shop.yaml").read_text().splitlines()[caught.value.place.line - 1]
    assert "table(blocked" in line
    assert caught.value.place.column > 1
    fixed = feature.replace("blocked", "fixed").replace(" listed", " shop in table(fixed)")
    compiled(tmp_path, fixed.replace("distinct: by", "distinct: shop"))


OPERATORS = """\
from operators.event_operator import BOOL, INT64, EventOperator, InputField, OutputField

class Points(EventOperator):
    inputs = (InputField("listed", BOOL),)
    outputs = (OutputField("points", INT64),)

    def on_event(self, event, state):
        return (int(bool(event["listed"])),)
"""


def test_nor_can_it_by_way_of_an_operator_without_state(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(OPERATORS)
    operators = "\noperators: {points: {operator: './ops.py:Points'}}"
    with pytest.raises(ConfigError, match="cannot read the table blocked: it has a topic"):
        compiled(tmp_path, "bad: {of: points, aggregates: [sum], over: [1h]}" + operators)
    compiled(tmp_path, "ok: points + 1" + operators)


def test_other_features_and_rules_can(tmp_path: Path) -> None:
    plan = compiled(tmp_path, 'ok: {count: "*", over: 1h, where: amount > 5}')
    assert [table.topic for table in plan.live.tables] == ["shop.blocked"]  # type: ignore[attr-defined]
    assert plan.live.tables[0].schema.timed  # type: ignore[attr-defined]


def test_their_contents_are_no_part_of_the_fingerprints(tmp_path: Path) -> None:
    prints = set()
    for row in ("s1", "s2"):
        plan = compiled(tmp_path, "ok: amount", row)
        prints.add((plan.state_fingerprint, plan.decision_fingerprint))  # type: ignore[attr-defined]
    assert len(prints) == 1


def test_two_tables_cannot_share_a_topic(tmp_path: Path) -> None:
    (tmp_path / "blocked.csv").write_text("shop\n")
    path = tmp_path / "shop.yaml"
    text = PIPELINE.replace("FEATURE\n", "").replace(
        "fixed: {key: shop, file: fixed.csv", "fixed: {key: shop, file: fixed.csv, topic: shop.blocked"
    )
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"shop.yaml:10:\d+: the topic shop.blocked is that of the table blocked"):
        load_pipeline(path)
