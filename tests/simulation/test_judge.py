"""The judge sees what it is there to see: each thing that may go wrong is put into a good world, and is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from state.memory import MemoryDisk
from streamproc.eventlog.contract import CommittedOffset, OutputRecords, TopicPartition
from streamproc.eventlog.simulated.partition import Batch
from tests.simulation import campaign
from tests.simulation.judge import judge
from tests.simulation.pod import Shared
from tests.simulation.seeds import run_seed

pytestmark = pytest.mark.blocking
SEED = 5
Damage = Callable[[Shared, list[MemoryDisk]], None]


def told_of(damage: Damage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the judge says of a world that went well and was damaged then."""

    def judged(shared: Shared, disks: list[MemoryDisk]) -> list[str]:
        assert judge(shared, disks) == []
        damage(shared, disks)
        return judge(shared, disks)

    monkeypatch.setattr(campaign, "judge", judged)
    return run_seed(SEED).wrong


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
    topic = shared.plan.topics.decisions
    change(shared, topic, values=records(shared, topic).values[:-1], keys=records(shared, topic).keys[:-1])


def second_decision(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plan.topics.decisions
    last = records(shared, topic)
    shared.cluster.append([OutputRecords(last.tp, last.keys[-1:], last.values[-1:], 0)], None)


def swapped_decisions(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plan.topics.decisions
    first, second = [batch for batch in batches(shared, topic) if batch.records][:2]
    first.records, second.records = second.records, first.records


def wrong_score(shared: Shared, _: list[MemoryDisk]) -> None:
    topic = shared.plan.topics.decisions
    values = list(records(shared, topic).values)
    change(shared, topic, values=[value.replace(b'"score":0.0', b'"score":9.0') for value in values])


def lost_letter(shared: Shared, _: list[MemoryDisk]) -> None:
    batch = batches(shared, shared.plan.topics.dead_letters)[-1]
    batch.records = None


def lost_journal_record(shared: Shared, _: list[MemoryDisk]) -> None:
    batches(shared, shared.plan.topics.journal)[1].records = None


def offset_behind(shared: Shared, _: list[MemoryDisk]) -> None:
    offsets = shared.cluster.group(shared.plan.pipeline).offsets
    tp, found = next(iter(offsets.items()))
    offsets[tp] = CommittedOffset(found.offset - 1, found.metadata)


def offset_of_another_record(shared: Shared, _: list[MemoryDisk]) -> None:
    offsets = shared.cluster.group(shared.plan.pipeline).offsets
    tp, found = next(iter(offsets.items()))
    offsets[tp] = CommittedOffset(found.offset, found.metadata[:-2] + "00")


def open_transaction(shared: Shared, _: list[MemoryDisk]) -> None:
    tp = TopicPartition(shared.plan.topics.decisions, 0)
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


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lost_decision, "decisions, expected"),
        (second_decision, "decisions, expected"),
        (swapped_decisions, "offset"),
        (wrong_score, "'score': 9.0"),
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
