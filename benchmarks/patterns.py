"""What sequence patterns and many rules cost: CPU microseconds a row, the columns of their conditions included.

    python -m benchmarks.patterns

20,000 users, all known before; 5 % of the rows are of an account (a third of these are failed logins), the others are
payments. Each of the ten patterns may begin with each failed login.
"""

from __future__ import annotations

__all__ = ["PATTERNS", "measure", "rules", "run"]

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.codec import best_us
from operators.batch import Batch, Column, TaskRows
from operators.decide import RuleDecider
from operators.operator import STRING, TIMESTAMP, decimal
from operators.schema import DataType, Kind
from state.worker_state import WorkerState
from streamproc.language import compile_pipeline, read_pipeline

SIZES = (1, 8, 64, 512)
_ROWS, _USERS, _STEP_MS, _SHARE = 50_000, 20_000, 100, 0.05
_LOGINS = (
    "DEFINE A AS kind = 'failed'{more}, B AS kind = 'ok', C AS kind = 'change', D AS kind = 'pay' AND amount > 1000"
)
_STRICT = f"PATTERN (A{{{{3,}}}} B C D) WITHIN INTERVAL '10' MINUTE {_LOGINS}"
_GAPPED = f"PATTERN (A (-> A){{{{2,}}}} -> B -> C -> D) WITHIN INTERVAL '10' MINUTE {_LOGINS}"
PATTERNS = {
    "A{3,} B C D": [_STRICT.format(more="")],
    "A (-> A){2,} -> B -> C -> D": [_GAPPED.format(more="")],
    "ten of A{3,} B C D": [_STRICT.format(more=f" AND amount > {i}") for i in range(10)],
    "five of each": [one.format(more=f" AND amount > {i}") for i in range(5) for one in (_STRICT, _GAPPED)],
}
_PIPELINE = """\
pipeline: p
streams:
  s: {id: i, event_time: t, fields: {i: string, user: string, kind: string, amount: decimal(2), t: timestamp}}
partition_by: user
patterns:
"""
_RULES = """\
pipeline: p
streams:
  s: {id: i, event_time: t, fields: {%s, i: string, user: string, t: timestamp}}
partition_by: user
rules:
"""


def _batch(names: Any, kinds: Sequence[str], amounts: Any, times: Any) -> Batch:
    columns = {
        "i": Column(STRING, names),
        "user": Column(STRING, names),
        "kind": Column(STRING, np.array(kinds, np.object_)),
        "amount": Column(decimal(2), amounts),
        "t": Column(TIMESTAMP, times),
    }
    return Batch(len(times), (TaskRows(0, 0, len(times)),), times, names.tolist(), columns)


def measure(texts: Sequence[str], size: int, rows: int = _ROWS, *, alone: bool = False) -> float:
    """Microseconds a row of all patterns together, at batches of `size`; `alone`: without their conditions' columns."""
    entries = "".join(f"  x{i}: >\n    {text}\n" for i, text in enumerate(texts))
    plan = compile_pipeline(read_pipeline(_PIPELINE + entries, "p.yaml"))
    state, rng = WorkerState(plan.tables), np.random.default_rng(1)
    users = np.array([f"user-{i:08d}" for i in range(_USERS)], np.object_)
    known = _batch(users, ["pay"] * _USERS, np.zeros(_USERS, np.int64), np.zeros(_USERS, np.int64))
    for step in plan.steps:
        step.process(known, state)
    state.publish()
    rows, spent = min(rows, size * 2_000), 0.0
    for begin in range(0, rows, size):
        share = rng.random(size) < _SHARE
        kinds = np.where(share, rng.choice(["failed", "ok", "change"], size), "pay").tolist()
        times = (begin + np.arange(size)) * _STEP_MS
        batch = _batch(users[rng.integers(0, _USERS, size)], kinds, rng.integers(0, 200_000, size), times)
        begun = time.process_time()
        for step in plan.steps:
            if alone and not step.tables:
                step.process(batch, state)
                begun = time.process_time()
            else:
                step.process(batch, state)
        state.publish()
        spent += time.process_time() - begun
    return spent / rows * 1e6


def rules(size: int, count: int = 100) -> float:
    """Microseconds a row of `count` rules, each over a column of its own: their conditions, and the decision."""
    fields = ", ".join(f"c{i}: float64" for i in range(count))
    entries = "".join(f"  - {{id: r{i}, when: c{i} > 0.99, then: review}}\n" for i in range(count))
    end = "decision: {severity: [review, approve], otherwise: approve}\n"
    plan = compile_pipeline(read_pipeline(_RULES % fields + entries + end, "p.yaml"))
    decider, rng = RuleDecider(plan.rules, plan.decision), np.random.default_rng(1)
    columns = {f"c{i}": Column(DataType(Kind.FLOAT64), rng.random(size)) for i in range(count)}
    state = WorkerState(plan.tables)

    def work() -> None:
        batch = Batch(size, (TaskRows(0, 0, size),), np.zeros(size, np.int64), [""] * size, dict(columns))
        for step in plan.steps:
            step.process(batch, state)
        decider.decide(batch.columns, size)

    return best_us(work, size)


def run(rows: int = _ROWS) -> list[dict[str, Any]]:
    """All of it, by batch size."""
    found: list[dict[str, Any]] = []
    for name, texts in PATTERNS.items():
        found.append({"step": name, "unit": "us a row", **{str(size): measure(texts, size, rows) for size in SIZES}})
    found.append({"step": "100 rules", "unit": "us a row", **{str(size): rules(size) for size in SIZES}})
    return found


def main() -> None:
    for row in run():
        print(json.dumps(row))


if __name__ == "__main__":
    main()
