"""What waits for time and for services, as predicted: beside keys whose rows come at random."""

from __future__ import annotations

import numpy as np
import pytest

from operators.batch import Batch, Column, TaskRows
from operators.operator import BOOL, INT64, STRING
from operators.timed.operator import TimedOperator
from operators.timed.spec import AbsenceSpec, TimedAggregate, TimedSpec, WindowKind, WindowSpec
from state.due import ENTRY_BYTES
from state.worker_state import WorkerState
from streamproc.language import compile_stages, read_pipeline
from streamproc.language.costing import Cost, Costs, predict
from streamproc.language.costing.timed import timed_state, timed_units
from tests.language.helpers import CONFIGS

HOUR, DAY = 3_600_000, 86_400_000
BEGIN = 1_767_225_600_000
RATE, DAYS, KEYS = 6.0, 60, 40


def spec(kind: WindowKind, size: int, every: int = 0, lateness: int = 0) -> TimedSpec:
    aggregates = (TimedAggregate.COUNT, TimedAggregate.SUM)
    rule = WindowSpec(kind, size, aggregates, every=every, lateness=lateness, of="value", type=INT64)
    return TimedSpec("w", "key", "key", rule, HOUR, "id")


def lived(given: TimedSpec) -> tuple[float, float, float]:
    """Results a row, and of a key, a row at a time: entries of its state when rows come, and its bytes at the end."""
    rng = np.random.default_rng(1)
    rows = int(RATE * DAYS * KEYS)
    times = np.sort(rng.integers(BEGIN, BEGIN + DAYS * DAY, rows))
    names = [f"card-{key:012d}" for key in rng.integers(0, KEYS, rows)]
    operator = TimedOperator(given)
    state = WorkerState(operator.tables)
    results, held = 0, []
    for row in range(rows):
        columns = {
            "key": Column(STRING, np.array(names[row : row + 1], np.object_)),
            "id": Column(STRING, np.array([f"payment-{row:012d}"], np.object_)),
            "value": Column(INT64, np.array([12_345])),
            "after": Column(BOOL, np.array([True])),
            "without": Column(BOOL, np.array([False])),
        }
        batch = Batch(1, (TaskRows(0, 0, 1),), times[row : row + 1], [""], columns)
        operator.process(batch, state)
        state.publish()
        results += len(batch.emitted)
        if row > rows // 2:
            table = state.table("timed.w")
            kept = operator.logic.load(table.blobs[table.keys_of(0)[names[row]]])
            held.append(len(getattr(kept, kept.__struct_fields__[0])))
    table = state.table("timed.w")
    return results / rows, float(np.mean(held)), (table.used_bytes - table.due.bytes) / table.live_keys


@pytest.mark.parametrize(
    "given",
    [
        spec(WindowKind.TUMBLE, HOUR),
        spec(WindowKind.TUMBLE, 2 * DAY),
        spec(WindowKind.HOP, DAY, 4 * HOUR, lateness=6 * HOUR),
        spec(WindowKind.CUMULATE, DAY, 6 * HOUR),
        spec(WindowKind.SESSION, HOUR),
        spec(WindowKind.SESSION, 6 * HOUR, lateness=DAY),
        TimedSpec("w", "key", "key", AbsenceSpec("after", "without", 12 * HOUR), HOUR, "id"),
    ],
    ids=lambda given: f"{given.rule}"[:40],
)
def test_results_and_state_are_those_of_keys_whose_rows_come_at_random(given: TimedSpec) -> None:
    results, held, used = lived(given)
    units, kept = timed_units(given, RATE), timed_state(TimedOperator(given), RATE)
    if not isinstance(given.rule, AbsenceSpec):
        assert units["timed:result"] == pytest.approx(results, rel=0.15)
    assert kept.entries == pytest.approx(held, abs=0.6)
    assert kept.bytes - ENTRY_BYTES == pytest.approx(used, rel=0.15)


def test_more_than_a_key_waits_for_is_not_kept() -> None:
    given = TimedSpec("w", "key", "key", AbsenceSpec("after", "without", DAY), 0, "id")
    assert timed_state(TimedOperator(given), 1e6).entries == 1_000


PIPELINE = """\
pipeline: shop
streams:
  payments:
    {id: id, event_time: at, fields: {id: string, card: string, device: string, amount: decimal(2), at: timestamp}}
stages:
  - {name: card, partition_by: card, features: {n: {count: "*", over: 1h}}}
  - name: reputation
    call: {url: "http://127.0.0.1:9/?d={device}", cache: 1m}
    returns: {reputation: float64}
  - name: owner
    call: {sql: "select owner from devices where id = {device}", database: "postgresql://a@127.0.0.1/a"}
    returns: {owner: string}
  - name: device
    partition_by: device
    windows: {turnover: {tumble: 1h, of: amount, aggregates: [sum]}}
    absences: {quiet: {after: amount > 500, without: amount < 1, within: 10m}}
rules:
  - {id: bad, when: reputation < 0.2, then: decline}
"""


def test_units_have_costs_of_their_own() -> None:
    """What a call and a result cost is what the table says."""
    free = ["decode", "expressions", "handoff", "encode", "journal", "block", "decide", "window", "kernel", "timed"]
    units = dict.fromkeys(free, Cost())
    units |= {"timed:absence": Cost(0, 5), "call:http": Cost(0, 70), "call:sql": Cost(9)}
    pipeline = read_pipeline(PIPELINE, str(CONFIGS / "shop.yaml"))
    found = predict(pipeline, compile_stages(pipeline), costs=Costs({"cpu": ""}, units))
    assert found.us == pytest.approx(75 + 9 / found.batch)
