"""Computing in turns: others go on between the pieces; what is given up in the middle leaves no trace."""

from __future__ import annotations

import asyncio
import json

import pytest

from operators.plan import Plan
from streamproc.cli.compose import build_engine
from streamproc.cli.replay_files import NothingStored
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.engine import Engine
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.results import Computed
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.turns import Work, at_once, in_turns

NOW = 1_700_000_000_000
TEXT = """\
pipeline: turns
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 1d
    fields: {id: string, card: string, amount: decimal(2), at: timestamp}
partition_by: card
partitions: 1
features: {spend: {of: amount, aggregates: [count, sum], over: [1h]}}
rules: [{id: burst, when: spend_count_1h >= 4, then: decline}]
decision: {severity: [decline, approve], include: [spend_count_1h, spend_sum_1h]}
"""


class Costly(SystemClock):
    """A piece of work, or what lies between two, is a second each."""

    seconds = 0.0

    def work(self) -> float:
        self.seconds += 1.0
        return self.seconds


def pieces(said: list[str], count: int = 3) -> Work[int]:
    try:
        for piece in range(count):
            said.append(f"piece {piece}")
            yield
    finally:
        said.append("over")
    return 7


async def answers(said: list[str]) -> None:
    """Each waits for the one before, as requests of a transaction do."""
    for answer in range(2):
        ready = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(ready.set_result, None)
        await ready
        said.append(f"answer {answer}")


async def test_what_waits_for_answers_goes_on_between_the_pieces() -> None:
    said: list[str] = []
    beside = asyncio.ensure_future(answers(said))
    result, seconds = await in_turns(pieces(said), Costly())
    await beside
    assert result == 7
    assert said == ["piece 0", "answer 0", "piece 1", "answer 1", "piece 2", "over"]
    assert seconds == 4.0, "three pieces and the end; what others did between them is not ours"


def test_at_once_nobody_has_a_turn() -> None:
    said: list[str] = []
    assert at_once(pieces(said)) == 7
    assert said == ["piece 0", "piece 1", "piece 2", "over"]


async def test_who_is_cancelled_between_two_pieces_gives_the_work_up() -> None:
    said: list[str] = []
    computing = asyncio.ensure_future(in_turns(pieces(said), SystemClock()))
    await asyncio.sleep(0)
    computing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await computing
    assert said == ["piece 0", "over"]


def stage() -> tuple[Plan, Engine, PartitionTask]:
    (plan,) = compile_stages(read_pipeline(TEXT, "turns.yaml"))
    engine, state = build_engine(plan, bytes(32), 1)
    state.add_task(0, NothingStored())
    task = PartitionTask(0, TopicPartition(plan.stream.topic, 0))
    task.enter(Phase.RUNNING)
    return plan, engine, task


def work(engine: Engine, task: PartitionTask, begin: int, end: int) -> Work[Computed]:
    """Payments of one card, each repeated."""
    rows = [{"id": f"p{n // 2}", "card": "c", "amount": 1, "at": NOW + n // 2} for n in range(begin, end)]
    values = [json.dumps(row).encode() for row in rows]
    keys: list[bytes | None] = [b"c"] * len(rows)
    chunk = Chunk(task.source, range(begin, end), keys, list(values), [NOW] * len(rows), end)
    return engine.compute([TaskInput(0, task.source, [chunk])], {task.source: task}, NOW)


def written(plan: Plan, computed: Computed) -> list[bytes | None]:
    return [value for out in computed.outputs if out.tp.topic == plan.topics.decisions for value in out.values]


@pytest.mark.parametrize("after", [1, 2])
def test_a_batch_that_is_given_up_leaves_no_trace(after: int) -> None:
    """After decoding, or with its rows in the state: the same batch then says what it says the first time."""
    plan, engine, task = stage()
    at_once(work(engine, task, 0, 6))
    engine.publish()
    begun = work(engine, task, 6, 12)
    for _ in range(after):
        next(begun)
    begun.close()
    _, other, same = stage()
    at_once(work(other, same, 0, 6))
    other.publish()
    found = written(plan, at_once(work(engine, task, 6, 12)))
    assert found == written(plan, at_once(work(other, same, 6, 12)))
    assert len(found) == 6
