"""Pipelines of several stages: what is wrong in each of them, and what a change of the chain means."""

from __future__ import annotations

import pytest

from operators.plan import Plan
from streamproc.language import compile_stages, read_pipeline
from streamproc.language.problems import PipelineError
from tests.language.helpers import FakeModel

CHAIN = """\
pipeline: cards
streams:
  transactions:
    id: transaction_id
    event_time: event_time
    deduplicate: 1d
    fields:
      transaction_id: string
      card_id: string
      user_id: string
      shop: string
      amount: decimal(2)
      event_time: timestamp
stages:
  - name: shops
    partition_by: shop
    features:
      shop_sum: {sum: amount, over: 1h}
      part: amount / shop_sum
  - name: users
    partition_by: user_id
    per: card_id
    features:
      n: {count: "*", over: 1h}
      twice: part * 2
rules:
  - {id: busy, when: shop_sum > 50 and n > 3, then: review}
decision: {include: [twice]}
"""


def stages(*changes: tuple[str, str]) -> tuple[Plan, ...]:
    text = CHAIN
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return compile_stages(read_pipeline(text, "p.yaml"), models=FakeModel)


def refused(*changes: tuple[str, str]) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        stages(*changes)
    return str(caught.value).splitlines()


def test_what_is_wrong_in_all_stages_is_said_together() -> None:
    found = refused(("sum: amount", "sum: amuont"), ('count: "*"', "count: crad_id"), ("n > 3", "m > 3"))
    assert [line.split(":")[1] for line in found] == ["18", "24", "27"]
    assert all("unknown column" in line for line in found)
    assert "_route" not in "".join(found), "names of ours are no hint"


def test_what_follows_from_an_error_of_an_earlier_stage_is_not_said() -> None:
    """`part`, `twice`, the rule and `include` need what is wrong in line 18."""
    assert refused(("sum: amount", "sum: amuont")) == ["p.yaml:18:23: unknown column 'amuont' (did you mean amount?)"]
    assert len(refused(("part: amount / shop_sum", "part: shop / shop_sum"))) == 1


@pytest.mark.parametrize("other", [("n > 3", "m > 3"), ("user_id\n", "usr_id\n")])
def test_wrong_keys_of_two_stages(other: tuple[str, str]) -> None:
    found = refused(("partition_by: shop", "partition_by: shops"), other)
    assert len(found) == 2, found
    assert found[0] == "p.yaml:16:19: partition_by: there is no field 'shops' (did you mean shop?)"


def test_a_key_that_is_wrong_is_said_where_it_is_made() -> None:
    change = ("part: amount / shop_sum", "who: shop = nothing"), ("user_id\n", "who\n"), ("twice: part * 2", "t: n")
    found = refused(*change)
    assert len(found) == 2, found
    assert "unknown column 'nothing'" in found[0]
    assert "include: unknown column 'twice'" in found[1]


def test_a_repeat_must_find_the_way_of_the_first() -> None:
    change = ("part: amount / shop_sum", "part: amount / shop_sum\n      who: user_id || shop"), ("user_id\n", "who\n")
    (found,) = refused(*change)
    assert found.startswith("p.yaml:23:10: partition_by: who is a feature, and a record that comes again has none (")
    assert len(stages(*change, ("    deduplicate: 1d\n", ""))) == 2


@pytest.mark.parametrize(
    "change",
    [
        ("name: shops", "name: sellers"),
        ("name: users", "name: cards"),
        ("partition_by: user_id", "partition_by: card_id"),
        ("partition_by: shop", "partition_by: card_id"),
    ],
)
def test_another_way_is_a_barrier_for_all_stages(change: tuple[str, str]) -> None:
    """Rows that are on their way, and state, would be looked for elsewhere, and not found."""
    assert all(a.state_fingerprint != b.state_fingerprint for a, b in zip(stages(), stages(change), strict=True))


def test_how_far_partitions_may_be_apart_is_no_barrier() -> None:
    changed = stages(("partition_by: shop\n", "partition_by: shop\n    in_step: 5s\n"))
    assert [plan.state_fingerprint for plan in changed] == [plan.state_fingerprint for plan in stages()]
    assert changed[0].handoff is not None
    assert changed[0].handoff.in_step_ms == 5000


def test_each_stage_has_a_home_of_its_own() -> None:
    assert [plan.home for plan in stages()] == ["cards/shops", "cards/users"]
    assert [plan.topics.journal for plan in stages()] == ["cards.journal.shops", "cards.journal"]
