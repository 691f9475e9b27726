"""The judge sees what it is there to see: each thing that may go wrong is put into a good world, and is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest

from state.hashing import partition_of
from state.memory import MemoryDisk
from streamproc.eventlog.contract import CommittedOffset, OutputRecords, TopicPartition
from streamproc.eventlog.simulated.partition import Batch
from streamproc.runtime.journal import decode_entry, encode_entry
from tests.simulation import campaign, states
from tests.simulation.judge import judge
from tests.simulation.pod import Shared
from tests.simulation.scenario import draw

pytestmark = pytest.mark.blocking
SEED, STAGED, CHECKPOINTED = 9, 7, 1
Damage = Callable[[Shared, list[MemoryDisk]], None]


def told_of(damage: Damage, monkeypatch: pytest.MonkeyPatch, seed: int = SEED, *more: str) -> list[str]:
    """What the judge says of a world that went well and was damaged then."""

    def judged(shared: Shared, disks: list[MemoryDisk]) -> list[str]:
        assert judge(shared, disks) == []
        damage(shared, disks)
        return judge(shared, disks)

    monkeypatch.setattr(campaign, "judge", judged)
    return campaign.simulate(msgspec.structs.replace(draw(seed), more=frozenset(more))).wrong


def batches(shared: Shared, topic: str) -> list[Batch]:
    """Of the committed records of a partition that has some."""
    partitions = [shared.cluster._partition(TopicPartition(topic, p)) for p in range(shared.scenario.partitions)]
    return max(([batch for batch in one.batches if batch.records] for one in partitions), key=len)


def records(shared: Shared, topic: str) -> Any:
    return batches(shared, topic)[-1].records


def change(shared: Shared, topic: str, **columns: Any) -> None:
    batch = batches(shared, topic)[-1]
    assert batch.records is not None
    batch.records = msgspec.structs.replace(batch.records, **columns)


def lost_decision(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plans[-1].topics.decisions
    change(shared, topic, values=records(shared, topic).values[:-1], keys=records(shared, topic).keys[:-1])


def second_decision(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plans[-1].topics.decisions
    last = records(shared, topic)
    shared.cluster.append([OutputRecords(last.tp, last.keys[-1:], last.values[-1:], 0)], None)


def swapped_decisions(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plans[-1].topics.decisions
    first, second = [batch for batch in batches(shared, topic) if batch.records][:2]
    first.records, second.records = second.records, first.records


def wrong_score(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plans[-1].topics.decisions
    values = list(records(shared, topic).values)
    change(shared, topic, values=[value.replace(b'"score":0.0', b'"score":9.0') for value in values])


def wrong_key(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plans[-1].topics.decisions
    change(shared, topic, keys=[b"another", *records(shared, topic).keys[1:]])


def rewritten(old: bytes, new: bytes) -> Damage:
    """All decisions of a batch."""

    def damage(shared: Shared, _: list[MemoryDisk]) -> None:
        topic = shared.plans[-1].topics.decisions
        values = records(shared, topic).values
        assert old in values[0]
        change(shared, topic, values=[value.replace(old, new) for value in values])

    return damage


def other_features(shared: Shared, _: list[MemoryDisk]) -> None:
    """A journal record's block of features is not the one that it names."""
    topic = shared.plans[-1].topics.journal
    change(shared, topic, values=[*records(shared, topic).values[:-1], b"x"])


def other_action(shared: Shared, disks: list[MemoryDisk]) -> None:
    """The last journal record says so of a decision, in a chain that is whole, and named by the group's offset."""
    journal = shared.plans[-1].topics.journal
    found = records(shared, journal)
    entry, _, chain = decode_entry(found.headers[-1])
    before = decode_entry(records_before(shared, journal))[2]
    changed = msgspec.structs.replace(entry, actions=bytes([entry.actions[0] ^ 1]) + entry.actions[1:])
    headers, after = encode_entry(changed, before)
    change(shared, journal, headers=[*found.headers[:-1], headers])
    offsets = shared.cluster.group(shared.pipeline).offsets
    tp = TopicPartition(shared.plans[-1].stream.topic, found.tp.partition)
    offsets[tp] = CommittedOffset(offsets[tp].offset, offsets[tp].metadata.replace(chain.hex(), after.hex()))


def records_before(shared: Shared, topic: str) -> Any:
    """The headers of the last record but one."""
    found = batches(shared, topic)[-2].records
    assert found is not None
    assert found.headers is not None
    return found.headers[-1]


def lost_letter(shared: Shared, _: list[MemoryDisk]) -> None:
    batch = batches(shared, shared.plans[-1].topics.dead_letters)[-1]
    batch.records = None


def lost_journal_record(shared: Shared, _: list[MemoryDisk]) -> None:
    batches(shared, shared.plans[-1].topics.journal)[1].records = None


def offset_behind(shared: Shared, _: list[MemoryDisk]) -> None:
    offsets = shared.cluster.group(shared.pipeline).offsets
    tp, found = next(iter(offsets.items()))
    offsets[tp] = CommittedOffset(found.offset - 1, found.metadata)


def offset_of_another_record(shared: Shared, _: list[MemoryDisk]) -> None:
    offsets = shared.cluster.group(shared.pipeline).offsets
    tp, found = next(iter(offsets.items()))
    *head, chain, time, partitions = found.metadata.split(":")
    offsets[tp] = CommittedOffset(found.offset, ":".join([*head, chain[:-2] + "00", time, partitions]))


def open_transaction(shared: Shared, _: list[MemoryDisk]) -> None:
    tp = TopicPartition(shared.plans[-1].topics.decisions, 0)
    epoch = shared.cluster.claim("somebody")
    shared.cluster.append([OutputRecords(tp, [b"k"], [b"{}"], 0)], ("somebody", epoch))


def lost_state(_: Shared, disks: list[MemoryDisk]) -> None:
    for disk in disks:
        disk.volumes.clear()


def older_rows(_: Shared, disks: list[MemoryDisk]) -> None:
    """A row is as new, though its store says that it is of the end."""
    for disk in disks:
        for volume in disk.volumes.values():
            key = max(key for key in volume.rows if key[:1] == b"r")
            del volume.rows[key]


def test_the_judge_tells_of_a_checkpoint_that_lacks_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it says that it is of the end."""
    copied = states._Stage.copied

    def lacking(stage: states._Stage, task: int) -> MemoryDisk | None:
        disk = copied(stage, task)
        for volume in disk.volumes.values() if disk is not None else ():
            if found := [key for key in volume.rows if key[:1] == b"r"]:
                del volume.rows[max(found)]
        return disk

    def damage(_: Shared, __: list[MemoryDisk]) -> None:
        monkeypatch.setattr(states._Stage, "copied", lacking)

    wrong = told_of(damage, monkeypatch, CHECKPOINTED)
    assert wrong
    assert all("its newest checkpoint decides otherwise" in one for one in wrong), wrong


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lost_decision, "decisions, expected"),
        (second_decision, "decisions, expected"),
        (swapped_decisions, "offset"),
        (wrong_score, "'score': 9.0"),
        (wrong_key, "has the key b'another'"),
        (rewritten(b'{"', b'{"more":1,"'), "'more': 1"),
        (rewritten(b'":', b'": '), "is not of the decisions that it covers"),
        (other_features, "is not of the decisions that it covers"),
        (other_action, "is not of the decisions that it covers"),
        (lost_letter, "dead letters"),
        (lost_journal_record, "journal record 1"),
        (offset_behind, "the group's offset is"),
        (offset_of_another_record, "does not name the journal's last record"),
        (open_transaction, "has an open transaction"),
        (lost_state, "its state is of []"),
        (older_rows, "its stored state decides otherwise"),
    ],
)
def test_the_judge_tells(damage: Damage, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = told_of(damage, monkeypatch)
    assert any(words in one for one in wrong), wrong


def lost_copy(shared: Shared, _: list[MemoryDisk]) -> None:
    batches(shared, shared.plans[-1].topics.side["checked"])[0].records = None


def second_copy(shared: Shared, _: list[MemoryDisk]) -> None:
    last = records(shared, shared.plans[-1].topics.side["checked"])
    shared.cluster.append([OutputRecords(last.tp, last.keys[-1:], last.values[-1:], 0)], None)


@pytest.mark.parametrize("damage", [lost_copy, second_copy])
def test_the_judge_tells_of_side_outputs(damage: Damage, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = told_of(damage, monkeypatch, SEED, "side")
    assert any("checked has" in one for one in wrong), wrong


# ---- stages: what is damaged is the second of three, or what it reads


def handed(shared: Shared) -> str:
    handoff = shared.plans[0].handoff
    assert handoff is not None
    return handoff.topic


def rewrite(shared: Shared, **fields: Any) -> None:
    """In the last batch of rows that were handed on."""
    topic = handed(shared)
    rows = [json.loads(value) for value in records(shared, topic).values]
    change(shared, topic, values=[orjson.dumps(row | fields) for row in rows])


def lost_row(shared: Shared, _: list[MemoryDisk]) -> None:
    batches(shared, handed(shared))[-1].records = None


def second_row(shared: Shared, _: list[MemoryDisk]) -> None:
    last = records(shared, handed(shared))
    shared.cluster.append([OutputRecords(last.tp, last.keys[-1:], last.values[-1:], 0)], None)


def swapped_rows(shared: Shared, _: list[MemoryDisk]) -> None:
    """Of a partition, from one and the same."""
    found = [batch for batch in batches(shared, handed(shared)) if batch.records]
    first, *others = found
    source = {place(shared, value) for value in records_of(first)}
    second = next(batch for batch in others if {place(shared, value) for value in records_of(batch)} == source)
    first.records, second.records = second.records, first.records


def records_of(batch: Batch) -> list[Any]:
    assert batch.records is not None
    return [json.loads(value or b"") for value in batch.records.values]


def place(shared: Shared, row: dict[str, Any]) -> int:
    return partition_of(row["device_id"].encode(), shared.scenario.partitions)


def astray(shared: Shared, _: list[MemoryDisk]) -> None:
    """In another partition than its key's."""
    topic = handed(shared)
    last, count = records(shared, topic), shared.scenario.partitions
    batches(shared, topic)[-1].records = None
    tp = TopicPartition(topic, (last.tp.partition + 1) % count)
    shared.cluster.append([msgspec.structs.replace(last, tp=tp)], None)


def wrong_feature(shared: Shared, _: list[MemoryDisk]) -> None:
    rewrite(shared, device_n_10m=99)


def wrong_digest(shared: Shared, _: list[MemoryDisk]) -> None:
    """Each record's is that of the last."""
    topic = handed(shared)
    digest = json.loads(records(shared, topic).values[-1])["_digest"]
    for batch in batches(shared, topic):
        assert batch.records is not None
        values = [orjson.dumps(row | {"_digest": digest}) for row in records_of(batch)]
        batch.records = msgspec.structs.replace(batch.records, values=values)


def lost_entry(shared: Shared, _: list[MemoryDisk]) -> None:
    batches(shared, shared.plans[1].topics.journal)[1].records = None


def stage_behind(shared: Shared, _: list[MemoryDisk]) -> None:
    offsets = shared.cluster.group(shared.pipeline).offsets
    tp, found = next((tp, found) for tp, found in offsets.items() if tp.topic == handed(shared))
    offsets[tp] = CommittedOffset(found.offset - 1, found.metadata)


def lost_volumes(shared: Shared, disks: list[MemoryDisk]) -> None:
    for disk in disks:
        for number in shared.volumes()[shared.scenario.partitions : 2 * shared.scenario.partitions]:
            disk.volumes.pop(number, None)


def older_rows_of_a_stage(shared: Shared, disks: list[MemoryDisk]) -> None:
    for disk in disks:
        for number in shared.volumes()[shared.scenario.partitions : 2 * shared.scenario.partitions]:
            if number in disk.volumes:
                rows = disk.volumes[number].rows
                if found := [key for key in rows if key[:1] == b"r"]:
                    del rows[max(found)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lost_row, "rows handed on, expected"),
        (second_row, "rows handed on, expected"),
        (swapped_rows, "row 0"),
        (astray, "rows handed on, expected"),
        (wrong_feature, "'device_n_10m': 99"),
        (wrong_digest, "records that differ have the same digest"),
        (lost_entry, "journal record 1"),
        (stage_behind, "the group's offset is"),
        (lost_volumes, "its state is of []"),
        (older_rows_of_a_stage, "its stored state decides otherwise"),
    ],
)
def test_the_judge_tells_of_stages(damage: Damage, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = told_of(damage, monkeypatch, STAGED)
    assert any(words in one for one in wrong), wrong
    assert any("terminal" in one for one in wrong), "it names the stage"
