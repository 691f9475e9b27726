"""Stages side by side: what is wrong with them, and what plans they come to."""

from __future__ import annotations

import textwrap

import pytest

from operators.call import Fork
from operators.plan import PLACE, ROUTE, Branch, GatherSpec, Plan, Target, calls_of, lean
from streamproc.language import compile_stages, explain, read_pipeline
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
CALL = """\
  - name: ask
    call: {url: "http://localhost/{device}"}
    returns: {risk: float64}
"""
DEVICES = """\
      - name: devices
        partition_by: device
        features:
          device_n: {count: "*", over: 1h}
          many: device_n > 3
"""
ALONE = """\
      - name: ask
        call: {url: "http://localhost/{device}"}
        returns: {risk: float64}
"""
IN_A_BRANCH = """\
      - stages:
          - name: ask
            call: {url: "http://localhost/{device}"}
            returns: {risk: float64}
          - name: devices
            partition_by: device
            features:
              device_n: {count: "*", over: 1h}
              many: device_n > 3
          - name: again
            call: {url: "http://localhost/{device_n}"}
            returns: {doubt: int64}
          - name: shops
            partition_by: merchant
            features:
              shop_n: {count: "*", over: 1h}
"""


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


def test_a_service_is_asked_once_before_rows_go_several_ways() -> None:
    cards, merchants, devices, users = stages((CARDS, CARDS + CALL))
    assert cards.handoff is not None
    assert (cards.handoff.topics, cards.handoff.key, cards.handoff.placed) == (("cards.ask",), "card", True)
    (call,) = merchants.calls
    assert devices.calls == merchants.calls
    assert calls_of((cards, merchants, devices, users)) == [call]
    assert call.source == merchants.entrance == devices.entrance == "cards.ask"
    assert call.fork == Fork((("cards.merchants", "merchant"), ("cards.devices", "device")), "payment_id")
    for plan in (merchants, devices):
        assert {"risk", "ask_failed", PLACE} <= {field.name for field in plan.stream.fields}
    assert {"risk", "ask_failed"} <= {field.name for field in users.stream.fields}
    assert devices.handoff is not None
    assert devices.handoff.columns == ("device_n", "many")
    assert users.decision.calls == ("ask",)


def test_a_service_that_branches_share_is_explained_once() -> None:
    told = explain(*stages((CARDS, CARDS + CALL))).splitlines()
    assert [line for line in told if line.startswith("call ")] == ["call ask: GET http://localhost/{device}"]
    assert "stream payments: topic cards.devices, 4 partitions by device" in told


def test_rows_are_gathered_before_a_service_is_asked_about_them() -> None:
    *_, devices, gather, users = stages(("    wait: 10m\n", "    wait: 10m\n" + CALL.replace("{device}", "{many}")))
    assert devices.handoff is not None
    assert (devices.handoff.topic, devices.handoff.key, devices.handoff.part) == ("cards.ask_gather", "card", 1)
    assert (gather.stage, gather.gather, gather.features) == (
        "ask_gather", GatherSpec(("merchants", "devices"), 600_000), (),
    )  # fmt: skip
    assert gather.handoff is not None
    assert (gather.handoff.topic, gather.handoff.key, gather.handoff.placed) == ("cards.ask", "user", False)
    assert [(call.source, call.target, call.fork) for call in users.calls] == [("cards.ask", "cards.users", None)]
    assert users.gather is None


def test_a_branch_may_be_a_chain_of_stages_and_calls() -> None:
    plans = stages((DEVICES, IN_A_BRANCH))
    cards, merchants, devices, shops, users = plans
    assert cards.handoff is not None
    assert cards.handoff.beside == (Target("cards.ask", "device"),)
    assert [(call.source, call.target, call.fork) for call in calls_of(plans)] == [
        ("cards.ask", "cards.devices", None), ("cards.again", "cards.shops", None),
    ]  # fmt: skip
    to_users = Branch("cards.users", "user", 1)
    sent = devices.handoff
    assert sent is not None
    assert (sent.topic, sent.key, sent.part, sent.branch) == ("cards.again", "merchant", None, to_users)
    assert sent.columns == ("device_n", "many")
    ends = shops.handoff
    assert ends is not None
    assert (ends.topic, ends.part, ends.branch) == ("cards.users", 1, to_users)
    made = ("risk", "ask_failed", "device_n", "many", "doubt", "again_failed", "shop_n")
    assert ends.columns == made
    assert {*made, "merchant_n"} <= {field.name for field in users.stream.fields}
    assert set(made) - {"shop_n"} <= {field.name for field in lean(shops).stream.fields}
    assert users.gather == GatherSpec(("merchants", "shops"), 600_000)
    assert merchants.handoff is not None
    assert merchants.handoff.part == 0


@pytest.mark.parametrize("first", ["", "          - {name: devices, partition_by: device}\n"])
def test_what_a_call_that_ends_a_branch_returns_is_handed_on_by_a_stage_that_adds_nothing(first: str) -> None:
    branch = ALONE if not first else "      - stages:\n" + first + textwrap.indent(ALONE, "    ")
    plans = stages((DEVICES, branch), (" and many", ""))
    *_, part, users = plans
    assert (part.stage, part.partition_by, part.features) == ("ask_part", "card", ())
    assert [(call.source, call.target, call.fork) for call in part.calls] == [("cards.ask", "cards.ask_part", None)]
    assert part.handoff is not None
    assert (part.handoff.topic, part.handoff.key, part.handoff.part) == ("cards.users", "user", 1)
    assert part.handoff.columns == ("risk", "ask_failed")
    assert users.gather == GatherSpec(("merchants", "ask_part"), 600_000)
    assert {"risk", "ask_failed", "merchant_n"} <= {field.name for field in users.stream.fields}
    assert plans[0].handoff is not None
    assert (first != "") is (plans[0].handoff.beside == (Target("cards.devices", "device"),))


GROUP = "  - parallel:\n      - {name: one, partition_by: card}\n      - {name: two, partition_by: user}\n"


def test_a_service_is_asked_between_two_groups() -> None:
    more = USERS.replace("users", "again").replace("user_n", "again_n")
    plans = stages((USERS, CALL.replace("{device}", "{many}") + GROUP + more))
    assert [plan.stage for plan in plans] == ["cards", "merchants", "devices", "ask_gather", "one", "two", "again"]
    gather, one, two = plans[3:6]
    assert (gather.gather, gather.partition_by) == (GatherSpec(("merchants", "devices"), 600_000), "card")
    assert gather.handoff is not None
    assert (gather.handoff.topics, gather.handoff.placed) == (("cards.ask",), True)
    (call,) = one.calls
    assert two.calls == one.calls
    assert call.fork == Fork((("cards.one", "card"), ("cards.two", "user")), "payment_id")


def test_a_group_may_follow_another() -> None:
    more = USERS.replace("users", "again").replace("user_n", "again_n")
    plans = stages((USERS, USERS + GROUP + more))
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
        ([(CARDS, CALL)], "p.yaml:11:5: call ask has no stage before it"),
        ([(CARDS, CARDS + CALL.replace("{device}", "{merchant_n}"))], "call ask: unknown column 'merchant_n'"),
        ([(CARDS, CARDS + CALL.replace("risk:", "device_n:")), ("device_n > 3", "true")], "device_n"),
        ([("    wait: 10m\n" + USERS, "    wait: 10m\n" + CALL)], "call ask has no stage behind it"),
        ([("    wait: 10m\n", "    wait: 10m\n" + CALL), ("name: cards\n", "name: ask_gather\n")],
         "rows are gathered before call ask by a stage 'ask_gather', and one exists already"),
        ([(DEVICES, IN_A_BRANCH.replace("risk:", "merchant_n:"))],
         "merchant_n is a feature of stage merchants, beside ask, too"),
        ([(DEVICES, IN_A_BRANCH.replace("risk:", "user:"))], "'user' exists already"),
        ([(DEVICES, IN_A_BRANCH), ("partition_by: user", "partition_by: risk")],
         "partition_by: risk is returned by call ask, which the stages beside it do not have"),
        ([(DEVICES, "    " + CALL.replace("\n  ", "\n      ")), ("name: cards\n", "name: ask_part\n")],
         "a part of the row is made behind call ask by a stage 'ask_part', and one exists already"),
        ([(DEVICES, ALONE), ("name: users\n", "name: ask_part\n")],
         "p.yaml:24:5: a stage 'ask_part' exists already: a part of the row is made behind call ask by it"),
        ([(DEVICES, ALONE), (CARDS, "")], "p.yaml:11:5: stages side by side need a stage before them"),
        ([(DEVICES, ALONE.replace("risk:", "merchant_n:"))],
         "merchant_n is a feature of stage merchants, beside ask, too"),
        ([(DEVICES, "      - stages: []\n")], "the stages of a branch must be a list of stages"),
        ([(DEVICES, "      - stages:\n          - parallel: []\n")],
         "'parallel' cannot stand within a branch of 'parallel'"),
        ([("    wait: 10m", "    wait: soon")], "p.yaml:25:11: "),
        ([("    wait: 10m", "    within: 10m")], "p.yaml:25:5: "),
        ([("name: devices", "name: merchants")], "a stage 'merchants' exists already"),
        ([("      - name: devices\n", "      - parallel: []\n        name: devices\n")],
         "'parallel' cannot stand within a branch of 'parallel'"),
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
    for change in (("wait: 10m", "wait: 11m"), ("name: devices", "name: gadgets"), (DEVICES, IN_A_BRANCH)):
        assert not {*before} & {plan.state_fingerprint for plan in stages(change)}
