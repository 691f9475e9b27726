"""A deadline: who is late, what such a row is spared and told, and what a later computation makes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.plan import ARRIVED, Plan
from operators.score import ScoreOperator
from state.worker_state import WorkerState
from streamproc.cli.compose import build_engine
from streamproc.cli.replay_files import NothingStored
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.deadline import packed, unpacked
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import JournalEntry, decode_entry
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.replay import SilentReplayer
from streamproc.runtime.results import Computed
from streamproc.runtime.rows import TaskInput

NOW = 1_700_000_000_000
TEXT = """\
pipeline: late
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 1d
    fields: {id: string, card: string, amount: decimal(2), at: timestamp}
partition_by: card
partitions: 1
deadline: 80ms
features: {spend: {of: amount, aggregates: [count, sum], over: [1h]}}
models: {fraud: {file: none.onnx, features: [amount, spend_sum_1h], tiers: {low: 0, high: 50}}}
rules:
  - {id: burst, when: spend_count_1h >= 4, then: decline}
  - {id: scored, when: score > 50, then: review}
decision: {severity: [decline, review, challenge, approve], include: [spend_count_1h]}
"""
CHAIN = (
    TEXT.replace("partition_by: card\n", "")
    .replace(
        "features: {spend: {of: amount, aggregates: [count, sum], over: [1h]}}\n",
        """stages:
  - {name: a, partition_by: amount_text, features: {a_n: {count: "*", over: 1h}}}
  - {name: b, partition_by: id, features: {b_n: {count: "*", over: 1h}}}
  - {name: c, partition_by: card, features: {spend: {of: amount, aggregates: [count, sum], over: [1h]}}}
""",
    )
    .replace("amount: decimal(2),", "amount: decimal(2), amount_text: string,")
)


class Model:
    """100 for all; counts what it was asked."""

    width = 2
    digest = "2" * 64
    asked: ClassVar[list[int]] = []

    def __init__(self, path: Path) -> None:
        Model.asked = []

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        Model.asked.append(len(matrix))
        return np.full(len(matrix), 100.0)


def plans(text: str = TEXT) -> tuple[Plan, ...]:
    return compile_stages(read_pipeline(text, "p.yaml"), models=Model)


def payment(number: int, card: str = "c", **more: Any) -> bytes:
    return json.dumps({"id": f"p{number}", "card": card, "amount": 1, "at": NOW, "amount_text": "1"} | more).encode()


class Stage:
    """A plan's engine on one task."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.offset = plan, 0
        self.source = TopicPartition(plan.stream.topic, 0)
        self.engine: Engine
        self.state: WorkerState
        self.engine, self.state = build_engine(plan, bytes(32), 1)
        self.state.add_task(0, NothingStored())
        self.task = PartitionTask(0, self.source)
        self.task.enter(Phase.RUNNING)

    def chunk(self, values: Sequence[bytes], came: Sequence[int]) -> Chunk:
        stop = self.offset + len(values)
        return Chunk(
            self.source, range(self.offset, stop), [None] * len(values), list(values), [NOW + ms for ms in came], stop
        )

    def compute(self, values: Sequence[bytes], came: Sequence[int], at: int = 0) -> Computed:
        """Records that came so many ms after NOW, taken at NOW + `at`."""
        chunk = self.chunk(values, came)
        computed = self.engine.compute([TaskInput(0, self.source, [chunk])], {self.source: self.task}, NOW + at)
        self.engine.publish()
        self.offset += len(values)
        return computed

    def written(self, computed: Computed, topic: str) -> list[dict[str, Any]]:
        found = [output for output in computed.outputs if output.tp.topic == topic]
        return [json.loads(value or b"") for output in found for value in output.values]

    def decided(self, computed: Computed) -> list[dict[str, Any]]:
        return self.written(computed, self.plan.topics.decisions)

    def journaled(self, computed: Computed) -> JournalEntry:
        (output,) = [output for output in computed.outputs if output.tp.topic == self.plan.topics.journal]
        assert output.headers is not None
        return decode_entry(output.headers[0])[0]


@pytest.mark.parametrize(("waited", "late"), [(79, False), (80, False), (81, True), (-5, False)])
def test_a_payment_is_late_from_behind_its_deadline_on(waited: int, late: bool) -> None:
    stage = Stage(*plans())
    (decision,) = stage.decided(stage.compute([payment(1)], [0], at=waited))
    assert decision.get("late_answer", False) is late
    assert (decision["score"], decision["risk_tier"]) == ((None, None) if late else (100.0, "high"))
    assert (decision["decision"], decision["reasons"]) == (("approve", []) if late else ("review", ["scored"]))
    assert Model.asked == [] if late else [1]


def test_late_ones_among_others_have_their_rules_and_features_and_the_model_is_not_asked() -> None:
    stage = Stage(*plans())
    values = [payment(1), payment(2), b"{", payment(3, "d"), payment(1), payment(4), payment(5)]
    computed = stage.compute(values, [0, 100, 0, 100, 0, 0, 100], at=100)
    decided = stage.decided(computed)
    assert [row["id"] for row in decided] == ["p1", "p2", "p3", "p1", "p4", "p5"]
    assert [row.get("late_answer", False) for row in decided] == [True, False, False, False, True, False]
    assert [row["score"] for row in decided] == [None, 100.0, 100.0, None, None, 100.0]
    assert [row["spend_count_1h"] for row in decided] == [1, 2, 1, None, 3, 4]
    assert decided[3]["duplicate"] is True
    assert decided[3]["decision"] == decided[0]["decision"] == "approve"
    assert decided[5]["reasons"] == ["burst", "scored"]
    assert Model.asked == [3]
    said = unpacked(stage.journaled(computed).late, 6)
    assert said is not None
    assert said.tolist() == [True, False, False, True, True, False], "a repeat is late too, though it is not told"
    metrics = WorkerMetrics()
    metrics.committed([("main", computed.judged)], [], [], 0.0, NOW)
    assert metrics.registry.get_sample_value("streamproc_late_answers_total") == 2


def test_without_a_deadline_nothing_is_late() -> None:
    stage = Stage(*plans(TEXT.replace("deadline: 80ms\n", "")))
    computed = stage.compute([payment(1)], [0], at=86_400_000)
    assert "late_answer" not in stage.decided(computed)[0]
    assert stage.journaled(computed).late == b""


def test_what_later_payments_see_does_not_depend_on_who_was_late() -> None:
    found = []
    for at in (0, 100):
        stage = Stage(*plans())
        exact = [stage.journaled(stage.compute([payment(n)], [0], at=at)).exact for n in range(5)]
        found.append((exact, stage.decided(stage.compute([payment(9)], [0]))))
    assert found[0] == found[1]


@pytest.mark.parametrize("came", [[0, 0, 0], [100, 0, 100], [100, 100, 100]], ids=["all", "one", "none"])
def test_a_restore_decides_the_last_transaction_as_it_was_decided(came: list[int]) -> None:
    """It has no clock, and the journal's word for it: with all, one or none of the rows late."""
    stage, values = Stage(*plans()), [payment(n) for n in range(3)]
    entry = stage.journaled(stage.compute(values, came, at=100))
    again = Stage(*plans())
    outputs = []
    real = again.engine.rerun_last

    def rerun_last(*args: Any, **kwargs: Any) -> tuple[bytes, bytes | None]:
        outputs.append(real(*args, **kwargs))
        return outputs[-1]

    again.engine.rerun_last = rerun_last  # type: ignore[method-assign]
    assert SilentReplayer(again.engine).replay_last(0, [again.chunk(values, came)], entry)
    assert outputs == [(entry.exact, entry.output)]


def test_the_last_of_several_stages_goes_by_the_time_at_which_the_payment_first_came() -> None:
    first, second, last = map(Stage, plans(CHAIN))
    values, hop = [payment(1), payment(2)], 50
    for stage, topic in ((first, "late.b"), (second, "late.c")):
        computed = stage.compute(values, [0, 60] if stage is first else [hop, hop], at=hop)
        rows = stage.written(computed, topic)
        assert [row[ARRIVED] for row in rows] == [NOW, NOW + 60]
        values = [json.dumps(row, separators=(",", ":")).encode() for row in rows]
    decided = last.decided(last.compute(values, [hop, hop], at=100))
    assert [row.get("late_answer", False) for row in decided] == [True, False]


def test_rows_that_were_handed_on_before_there_was_a_deadline_go_by_the_time_of_the_hop() -> None:
    *_, last = map(Stage, plans(CHAIN))
    row = {"id": "p1", "card": "c", "amount": 1, "at": NOW, "amount_text": "1", "a_n": 1, "b_n": 1}
    value = json.dumps(row | {"_digest": 5, "_route": "c"}, separators=(",", ":")).encode()
    (decision,) = last.decided(last.compute([value], [50], at=100))
    assert "late_answer" not in decision


@pytest.mark.parametrize("text", [TEXT, CHAIN], ids=["one stage", "a chain"])
def test_a_deadline_may_come_and_go_without_a_barrier(text: str) -> None:
    with_it, other = plans(text), plans(text.replace("80ms", "90ms"))
    without = plans(text.replace("deadline: 80ms\n", ""))
    fingerprints = [[plan.state_fingerprint for plan in some] for some in (with_it, other, without)]
    assert fingerprints[0] == fingerprints[1] == fingerprints[2]
    assert len({some[-1].decision_fingerprint for some in (with_it, other, without)}) == 3


def test_a_model_that_is_not_asked_gives_no_column_a_value() -> None:
    (plan,) = plans()
    (step,) = [step for step in plan.steps if isinstance(step, ScoreOperator)]
    stage = Stage(plan)
    batch = stage.compute([payment(1), payment(2)], [0, 0], at=100).judged.batch
    for field in step.outputs:
        valid = batch.columns[field.name].valid
        assert valid is not None
        assert not valid.any()


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_bits_come_back_as_they_were(flags: list[bool], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(flags)))
    stop = data.draw(st.integers(start, len(flags)))
    found = unpacked(packed(np.array(flags), start, stop), stop - start)
    assert (found is None and not any(flags[start:stop])) or (found is not None and found.tolist() == flags[start:stop])
