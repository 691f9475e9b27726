"""Rows that go several ways behind a call."""

from __future__ import annotations

import json

import numpy as np
import pytest

from operators.batch import Column
from operators.call import Fork
from operators.forks import ForkWriter, Sent
from operators.handoff import HandoffEncoder, joined
from operators.operator import INT64, STRING
from operators.plan import PLACE, ROUTE, Branch, Handoff

WAYS = ForkWriter(Fork((("p.shop", "shop"), ("p.user", "user"), ("p.id", "id")), "id"))


@pytest.mark.parametrize(
    ("shop", "user", "routes"),
    [
        ("s1", 17, ["s1", "17", "p1"]),
        (None, None, ["p1", "p1", "p1"]),  # as a stage routes rows without a key
        ("", -1, [" ", "-1", "p1"]),
        ('a,"_route":"x', 9, ['a,"_route":"x', "9", "p1"]),
    ],
)
def test_a_row_goes_each_way_by_its_own_key(shop: str | None, user: int | None, routes: list[str]) -> None:
    row = {"id": "p1", "shop": shop, "user": user, "risk": 0.5, "_place": "2-17"}
    record = json.dumps({**row, "_route": "c1"}, separators=(",", ":")).encode()
    sent = WAYS.write(record)
    assert [(one.topic, one.route) for one in sent] == [
        (topic, route.encode()) for topic, route in zip(["p.shop", "p.user", "p.id"], routes, strict=True)
    ]
    assert [json.loads(one.record or b"") for one in sent] == [{**row, "_route": route} for route in routes]


@pytest.mark.parametrize(
    "record",
    [
        None, b"", b"[]", b"no JSON", b'{"id":"p1"}', b"\xff", b'{"id":null,"shop":null,"user":1,"_route":"c"}',
        b'{"id":"p1","shop":"s","user":1}', b'{"_route":"c","id":"p1","shop":"s","user":1}',
        b'{"id":"p1","_route":"c","shop":"s","user":1,"more":{"a":1,"_route":"c"}}',
        b'{"id":"p1","shop":"s","user":1,"_route":7}',
    ],
)  # fmt: skip
def test_what_no_stage_wrote_goes_each_way_as_it_is(record: bytes | None) -> None:
    """Where each stage makes a dead letter of it."""
    assert WAYS.write(record) == [Sent(topic, None, record) for topic in ("p.shop", "p.user", "p.id")]


def test_a_row_without_a_key_goes_by_its_id_which_may_be_a_number() -> None:
    record = b'{"id":17,"shop":null,"user":null,"_place":"1-4","_route":"c"}'
    assert [sent.route for sent in WAYS.write(record)] == [b"17", b"17", b"17"]


def test_an_answer_stands_before_what_names_the_row() -> None:
    """Else the first branch, which passes on what stands before that, would lose it."""
    record = b'{"id":"p1","_place":"2-17","_route":"s1"}'
    assert joined(record, b'"risk":0.5') == b'{"id":"p1","risk":0.5,"_place":"2-17","_route":"s1"}'
    text = b'{"id":"a,\\"_place\\":\\"x","_route":"s1"}'
    assert joined(text, b'"risk":0.5') == b'{"id":"a,\\"_place\\":\\"x","risk":0.5,"_route":"s1"}'


def test_what_a_stage_within_a_branch_adds_stands_before_it_too() -> None:
    handoff = Handoff(
        "t.next", "user", ("n",), branch=Branch("t", "user", 0), passed=("id", "user", PLACE, ROUTE), placed=True
    )  # fmt: skip
    encoder = HandoffEncoder(handoff, digests=False, passes=True, named="id", event_time="at")
    texts = {"user": "u1", PLACE: "3-17"}
    fields = {name: Column(STRING, np.array([text], np.object_)) for name, text in texts.items()}
    none = np.zeros(1, np.int64)
    handed = encoder.encode(
        ["p1"], fields, {"n": Column(INT64, np.array([7]))}, fresh=none, digests=none, arrived=none,
        values=[b'{"id":"p1","user":"u1","_place":"3-17","_route":"s1"}'],
    )  # fmt: skip
    assert handed.texts == [b'{"id":"p1","user":"u1","n":7,"_place":"3-17","_route":"u1"}']
