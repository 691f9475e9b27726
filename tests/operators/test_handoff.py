"""What stages hand on: a later one passes on what it was handed, adds its features, and reads no more than it needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from operators.decode import Decoded, RecordDecoder
from operators.plan import DIGEST, ROUTE, Plan, lean
from state.hashing import partitions_of
from streamproc.cli.compose import build_engine
from streamproc.cli.replay_files import NothingStored
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.engine import Engine
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.results import AtHand, Computed
from streamproc.runtime.rows import TaskInput
from tests.language.helpers import compiled_stages

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields: {id: string, shop: string, device: string, card: string, amount: decimal(2), note: string, at: timestamp}
stages:
  - {name: shop, partition_by: shop, features: {shop_n: {count: "*", over: 1h}, unread: amount + 1}}
  - {name: device, partition_by: device, features: {device_sum: {sum: amount, over: 1h}, share: amount / device_sum}}
  - {name: card, partition_by: card, features: {card_n: {count: "*", over: 1h}}}
rules:
  - {id: many, when: shop_n >= 2 and device_sum > 20, then: review, reason: many}
decision: {severity: [review, approve], otherwise: approve, include: [share]}
"""
NOW = 1_767_225_600_000


def records(*changes: dict[str, Any]) -> list[bytes]:
    base = {"shop": "s", "device": "d", "card": "c", "amount": 12.5, "note": "n", "at": NOW}
    return [json.dumps({"id": f"p{i}"} | base | change).encode() for i, change in enumerate(changes)]


class Chain:
    """The engines of all stages; `handed` by topic."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = plans
        self.handed: dict[str, list[tuple[Any, Any]]] = {}
        self._stages: list[tuple[Engine, dict[TopicPartition, PartitionTask]]] = []
        for plan in plans:
            engine, state = build_engine(plan, bytes(32), 1)
            state.add_task(0, NothingStored())
            task = PartitionTask(0, TopicPartition(plan.stream.topic, 0))
            task.enter(Phase.RUNNING)
            self._stages.append((engine, {task.source: task}))

    def stage(self, number: int, values: Sequence[bytes], at_hand: AtHand | None = None) -> Computed:
        engine, tasks = self._stages[number]
        (source,) = tasks
        keys: list[bytes | None] = [None] * len(values)
        chunk = Chunk(source, range(len(values)), keys, list(values), [NOW] * len(values), len(values))
        computed = engine.compute([TaskInput(0, source, [chunk])], tasks, NOW, at_hand)
        engine.publish()
        for output in computed.outputs:
            pairs = zip(output.keys, output.values, strict=True)
            self.handed.setdefault(output.tp.topic, []).extend(pairs)
        return computed

    def run(self, values: Sequence[bytes]) -> list[dict[str, Any]]:
        """The decisions."""
        for number, plan in enumerate(self.plans):
            self.stage(number, values)
            if plan.handoff is not None:
                values = [value for _, value in self.handed[plan.handoff.topic]]
        return [json.loads(value) for _, value in self.handed["shop.decisions"]]


def test_a_later_stage_adds_its_features_to_what_it_was_handed() -> None:
    chain = Chain(compiled_stages(PIPELINE))
    chain.run(records({}, {"device": None, "note": '","_route":"x"}'}))
    for topic, route in (("shop.device", [b"d", b"p1"]), ("shop.card", [b"c", b"c"])):
        assert [key for key, _ in chain.handed[topic]] == route
    for (_, before), (_, after) in zip(chain.handed["shop.device"], chain.handed["shop.card"], strict=True):
        first, second = json.loads(before), json.loads(after)
        assert list(first)[-2:] == [DIGEST, ROUTE]
        assert list(second)[-3:] == ["device_sum", "share", ROUTE]
        assert {name: second[name] for name in first if name != ROUTE} == {
            name: value for name, value in first.items() if name != ROUTE
        }
        assert after.startswith(before[: before.rindex(b',"_route"')])
        assert after.count(b'"_route":"c"') == 1
    noted = json.loads(chain.handed["shop.card"][1][1])
    assert (noted["note"], noted["device_sum"], noted["share"]) == ('","_route":"x"}', None, None)


def test_a_repeat_is_handed_on_without_features_and_known_by_the_last_stage() -> None:
    chain = Chain(compiled_stages(PIPELINE))
    first, again = chain.run(records({}) * 2)
    assert (first["decision"], again["decision"], again.get("duplicate")) == ("approve", "approve", True)
    handed = [json.loads(value) for _, value in chain.handed["shop.card"]]
    assert [one["device_sum"] for one in handed] == [12.5, None]
    assert handed[0][DIGEST] == handed[1][DIGEST]


class ChainAtHand(Chain):
    """Each stage gets the columns of the rows besides their records."""

    def run(self, values: Sequence[bytes]) -> list[dict[str, Any]]:
        at_hand = None
        for number, plan in enumerate(self.plans):
            computed = self.stage(number, values, at_hand)
            if plan.handoff is not None and computed.handed is not None:
                at_hand = computed.handed.at_hand([TopicPartition(plan.handoff.topic, 0)])
                values = [value for _, value in self.handed[plan.handoff.topic]]
        return [json.loads(value) for _, value in self.handed["shop.decisions"]]


@pytest.mark.parametrize("is_lean", [False, True])
def test_rows_at_hand_are_decided_as_their_records_would_be(is_lean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [lean(plan) if is_lean else plan for plan in compiled_stages(PIPELINE)]
    values = records({}, {"amount": 8.25, "at": NOW + 1}, {"device": None, "note": None}, {"shop": "t", "card": "k"})
    values = [*values, values[1], *records({"id": "p9", "amount": 10_000_000_000_000})]  # a repeat; read by its digits
    by_records, at_hand = Chain(plans), ChainAtHand(plans)
    decisions = by_records.run(values)
    times_read: list[int] = []
    decode = RecordDecoder.decode

    def counted(self: RecordDecoder, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded:
        times_read.append(len(values))
        return decode(self, values, timestamps)

    monkeypatch.setattr(RecordDecoder, "decode", counted)
    assert at_hand.run(values) == decisions
    assert at_hand.handed == by_records.handed
    assert times_read == [6, 6, 6]
    fresh = ChainAtHand(plans)
    fresh.run(values[:5])
    assert times_read[3:] == [5]  # by the first stage only


def test_a_lean_chain_decides_and_hands_on_the_same() -> None:
    plans = compiled_stages(PIPELINE)
    values = records({}, {"amount": 8.25, "at": NOW + 1}, {"device": None}, {"shop": "t", "card": "k"})
    whole, spare = Chain(plans), Chain([lean(plan) for plan in plans])
    assert spare.run(values) == whole.run(values)
    assert spare.handed == whole.handed
    assert [sorted(field.name for field in lean(plan).stream.fields) for plan in plans] == [
        ["amount", "at", "card", "device", "id", "note", "shop"],
        sorted(["_digest", "_route", "amount", "at", "card", "device", "id", "shop"]),
        sorted(["_digest", "_route", "at", "card", "device_sum", "id", "share", "shop", "shop_n"]),
    ]


def test_a_record_that_no_stage_wrote_is_a_dead_letter() -> None:
    chain = Chain(compiled_stages(PIPELINE))
    chain.run(records({}))
    handed = json.loads(chain.handed["shop.device"][0][1])
    turned = json.dumps({ROUTE: handed.pop(ROUTE)} | handed | {"id": "p9"}).encode()
    computed = chain.stage(1, [turned])
    assert [letter.reason for letter in computed.judged.rows.refused] == ["not_handed_on"]


@pytest.mark.parametrize("count", [1, 16, 17, 40])
def test_partitions_of_few_and_many_keys(count: int) -> None:
    """The same by either way: golden values of Kafka's own murmur2 are in tests/state/test_hashing.py."""
    keys = [b"k" * (i % 9) + str(i).encode() for i in range(count)]
    assert partitions_of(keys, 7).tolist() == [int(partitions_of([key], 7)[0]) for key in keys]
