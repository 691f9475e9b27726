"""What results that wait for time cost: CPU microseconds a row and window, results included.

    python -m benchmarks.timed

2,000 keys, a row every 10 ms of event time: a window of 5 minutes has 15 rows of a key.
"""

from __future__ import annotations

__all__ = ["measure", "run"]

import time

import numpy as np

from operators.batch import Batch, Column, TaskRows
from operators.operator import BOOL, INT64, STRING
from operators.timed.operator import TimedOperator
from operators.timed.spec import AbsenceSpec, TimedAggregate, TimedSpec, WindowKind, WindowSpec
from state.worker_state import WorkerState

SIZES = (1, 8, 64, 512)
_ROWS, _KEYS, _STEP_MS = 100_000, 2_000, 10
_MINUTE = 60_000
_ALL = tuple(TimedAggregate)
RULES: dict[str, WindowSpec | AbsenceSpec] = {
    "tumble 5m": WindowSpec(WindowKind.TUMBLE, 5 * _MINUTE, _ALL, of="value", type=INT64),
    "hop 10m every 1m": WindowSpec(WindowKind.HOP, 10 * _MINUTE, _ALL, every=_MINUTE, of="value", type=INT64),
    "cumulate 1h every 5m": WindowSpec(
        WindowKind.CUMULATE, 60 * _MINUTE, _ALL, every=5 * _MINUTE, of="value", type=INT64
    ),
    "session 1m": WindowSpec(WindowKind.SESSION, _MINUTE, _ALL, of="value", type=INT64),
    "absence 1m": AbsenceSpec("after", "without", _MINUTE),
}


def measure(rule: WindowSpec | AbsenceSpec, size: int, rows: int = _ROWS) -> dict[str, float]:
    """`us_row`: at batches of `size`; `said`: results a row."""
    rng = np.random.default_rng(0)
    rows = min(rows, size * 2_000)
    times = 1_700_000_000_000 + np.arange(rows) * _STEP_MS
    columns = {
        "key": Column(STRING, np.array([f"c{key}" for key in rng.integers(0, _KEYS, rows)], np.object_)),
        "id": Column(STRING, np.array([f"t{row}" for row in range(rows)], np.object_)),
        "value": Column(INT64, rng.integers(0, 10_000, rows)),
        "after": Column(BOOL, rng.random(rows) < 0.3),
        "without": Column(BOOL, rng.random(rows) < 0.3),
    }
    operator = TimedOperator(TimedSpec("w", "key", "key", rule, 1_000, "id"))
    state = WorkerState(operator.tables)
    said, cpu = 0, 0.0
    for begin in range(0, rows, size):
        picked = np.arange(begin, min(rows, begin + size))
        part = {name: column.take(picked) for name, column in columns.items()}
        batch = Batch(len(picked), (TaskRows(0, 0, len(picked)),), times[picked], [""] * len(picked), part)
        begun = time.process_time()
        operator.process(batch, state)
        state.publish()
        cpu += time.process_time() - begun
        said += len(batch.emitted)
    return {"us_row": cpu / rows * 1e6, "said": said / rows}


def run(rows: int = _ROWS) -> list[dict[str, object]]:
    """One line a kind."""
    return [
        {"step": f"timed, {name}", "unit": "us a row"}
        | {str(size): measure(rule, size, rows)["us_row"] for size in SIZES}
        for name, rule in RULES.items()
    ]


def main() -> None:
    """Print all of it."""
    print(f"{'us a row at batch':24}" + "".join(f"{size:>9}" for size in SIZES) + f"{'said':>9}")
    for name, rule in RULES.items():
        found = [measure(rule, size) for size in SIZES]
        print(f"{name:24}" + "".join(f"{one['us_row']:9.1f}" for one in found) + f"{found[-1]['said']:9.2f}")


if __name__ == "__main__":
    main()
