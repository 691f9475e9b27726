"""Which tasks keep their memory when partitions are assigned anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.runtime.journal import JournalHead
from streamproc.runtime.partition_task import PartitionTask, Phase, TaskHead
from streamproc.runtime.stage import Stage

TP = TopicPartition("in", 0)
MINE, OTHER = b"m" * 32, b"o" * 32


@pytest.mark.parametrize(
    ("offset", "head", "kept"),
    [
        (10, JournalHead(5, MINE, 3), True),
        (12, JournalHead(6, OTHER, 4), False),
        (10, JournalHead(6, OTHER, 4), False),  # a clock tick moves no position
        (10, JournalHead(5, OTHER, 3), False),
        (10, None, False),
        (None, None, True),
    ],
    ids=["nobody", "decided", "ticked", "another", "foreign", "forgotten"],
)
async def test_a_task_of_which_another_worker_has_decided_something_is_restored(
    offset: int | None, head: JournalHead | None, kept: bool
) -> None:
    task = PartitionTask(0, TP)
    task.enter(Phase.RUNNING)
    task.advance(TaskHead(10, 5, MINE), 4)
    given_up, begun = list[TopicPartition](), list[PartitionTask]()
    stage: Any = SimpleNamespace(
        source="in", engine=SimpleNamespace(partitions=1), tasks={TP: task}, inputs={}, _others_of=lambda _: (),
        _tables=None, restorer=SimpleNamespace(begin=lambda tasks, _: begun.extend(tasks)),
    )  # fmt: skip

    async def give_up(tp: TopicPartition) -> None:
        given_up.append(tp)
        del stage.tasks[tp]

    stage._give_up = give_up
    text = "" if head is None else head.text()
    await Stage.adopt(stage, {TP}, {} if offset is None else {TP: CommittedOffset(offset, text)})
    assert (given_up, [one.source for one in begun]) == (([], []) if kept else ([TP], [TP]))
