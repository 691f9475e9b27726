"""Stages side by side: what is wrong with them, and what plans they come to."""

from __future__ import annotations

import pytest

from operators.plan import PLACE, ROUTE, GatherSpec, Plan, Target, lean
from streamproc.language import compile_stages, read_pipeline
from streamproc.language.problems import PipelineError
from tests.language.helpers import FakeModel

TEXT = """\
pipeline: cards
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 1d
    fields:
      {payment_id: string, card: string, merchant: string, device: string, user: string, amount: decimal(2),
       at: timestamp}
stages:
  - name: cards
    partition_by: card
    features:
      card_n: {count: "*", over: 1h}
  - parallel:
      - name: merchants
        partition_by: merchant
        features:
          merchant_n: {count: "*", over: 1h}
      - name: devices
        partition_by: device
        features:
          device_n: {count: "*", over: 1h}
          many: device_n > 3
    wait: 10m
  - name: users
    partition_by: user
    features:
      user_n: {count: "*", over: 1h}
rules:
  - {id: busy, when: merchant_n > 3 and many, then: review}
decision: {include: [card_n]}
"""
USERS = """\
  - name: users
    partition_by: user
    features:
      user_n: {count: "*", over: 1h}
"""
CARDS = """\
  - name: cards
    partition_by: card
    features:
      card_n: {count: "*", over: 1h}
"""
CALL = '  - name: ask\n    call: {url: "http://localhost/{user}", returns: {risk: float64}, default: {risk: null}}\n'


def stages(*changes: tuple[str, str]) -> tuple[Plan, ...]:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return compile_stages(read_pipeline(text, "p.yaml"), models=FakeModel)


def refused(*changes: tuple[str, str]) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        stages(*changes)
    return str(caught.value).splitlines()


def test_rows_go_to_all_of_them_and_come_together_again() -> None:
    cards, merchants, devices, users = stages()
    assert cards.handoff is not None
    assert (cards.handoff.topic, cards.handoff.key) == ("cards.merchants", "merchant")
    assert cards.handoff.beside == (Target("cards.devices", "device"),)
    assert [plan.stream.topic for plan in (merchants, devices)] == ["cards.merchants", "cards.devices"]
    assert merchants.handoff is not None
    assert devices.handoff is not None
    assert (merchants.handoff.topic, merchants.handoff.key, merchants.handoff.part) == ("cards.users", "user", 0)
    assert (devices.handoff.topic, devices.handoff.key, devices.handoff.part) == ("cards.users", "user", 1)
    assert devices.handoff.columns == ("device_n", "many")
    assert users.gather == GatherSpec(("merchants", "devices"), 600_000)
    fields = [field.name for field in users.stream.fields]
    assert PLACE not in fields
    assert {"card_n", "merchant_n", "device_n", "many", ROUTE} <= set(fields)
    assert users.handoff is None
    assert (cards.gather, merchants.gather, devices.gather) == (None, None, None)
    assert PLACE in [field.name for field in lean(devices).stream.fields]


def test_a_group_may_follow_another() -> None:
    more = USERS.replace("users", "again").replace("user_n", "again_n")
    group = "  - parallel:\n      - {name: one, partition_by: card}\n      - {name: two, partition_by: user}\n"
    plans = stages((USERS, USERS + group + more))
    assert [plan.stage for plan in plans] == ["cards", "merchants", "devices", "users", "one", "two", "again"]
    assert plans[-1].gather == GatherSpec(("one", "two"), 3_600_000)
    assert plans[3].handoff is not None
    assert plans[3].handoff.beside == (Target("cards.two", "user"),)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([(CARDS, "")], "p.yaml:11:5: stages side by side need a stage before them"),
        ([(USERS, "")], "p.yaml:15:5: stages side by side need a stage right behind them"),
        ([("          device_n:", "          merchant_n:"), ("device_n > 3", "true")],
         "p.yaml:23:11: merchant_n is a feature of stage merchants, beside devices, too"),
        ([("partition_by: user", "partition_by: many")], "p.yaml:27:19: partition_by: many is a feature of stage"),
        ([(CARDS, CARDS + CALL)], "call ask stands right before stages side by side"),
        ([("    wait: 10m\n", "    wait: 10m\n" + CALL)], "call ask stands right behind stages side by side"),
        ([("    wait: 10m", "    wait: soon")], "p.yaml:25:11: "),
        ([("    wait: 10m", "    within: 10m")], "p.yaml:25:5: "),
        ([("name: devices", "name: merchants")], "a stage 'merchants' exists already"),
        ([("      - name: devices\n", "      - parallel: []\n        name: devices\n")],
         "'parallel' cannot stand within 'parallel'"),
        ([("device_n > 3", "merchant_n > 3")], "merchant_n"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(changes: list[tuple[str, str]], told: str) -> None:
    found = refused(*changes)
    assert any(told in line for line in found), found


@pytest.mark.parametrize("parallel", ["[]", "{}", "x", "[{name: devices, partition_by: device}]"])
def test_one_stage_stands_beside_nothing(parallel: str) -> None:
    head, rest = TEXT.split("  - parallel:\n")
    text = f"{head}  - parallel: {parallel}\n" + USERS + rest.split(USERS)[1].split("rules:")[0]
    with pytest.raises(PipelineError, match="parallel must be a list of two stages or more"):
        read_pipeline(text, "p.yaml")


def test_how_long_parts_wait_and_who_stands_beside_whom_is_a_barrier() -> None:
    before = [plan.state_fingerprint for plan in stages()]
    assert [plan.state_fingerprint for plan in stages()] == before
    for change in (("wait: 10m", "wait: 11m"), ("name: devices", "name: gadgets")):
        assert all(a != b.state_fingerprint for a, b in zip(before, stages(change), strict=True))
