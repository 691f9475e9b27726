"""Rows of dicts through a timed operator, cut into batches; restores, undone batches and evictions between them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from operators.batch import Batch, Emitted, TaskRows, TaskTick
from operators.timed.logic import Fired, Missed
from operators.timed.operator import TimedOperator
from operators.timed.spec import AbsenceSpec, TimedAggregate, TimedSpec, WindowKind, WindowSpec
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from tests.operators.samples import column, type_of

Row = dict[str, Any]
ALL = tuple(TimedAggregate)


def window(kind: str, size: int, every: int = 0, **more: Any) -> WindowSpec:
    """A window rule over the column `value`; all aggregates unless told."""
    given: dict[str, Any] = {"aggregates": ALL, "of": "value", "type": type_of("int64"), "where": "where"} | more
    return WindowSpec(WindowKind(kind), size, every=every, **given)


def absence(within: int) -> AbsenceSpec:
    """An absence over the columns `after` and `without`."""
    return AbsenceSpec("after", "without", within)


def row(time: int, value: int | None = 1, key: str | None = "k", **more: Any) -> Row:
    """A row of task 0."""
    flags = {"where": True, "after": False, "without": False}
    return {"task": 0, "key": key, "time": time, "value": value, "id": f"r{time}"} | flags | more


def tick(time: int, task: int = 0) -> Row:
    """A clock tick."""
    return {"task": task, "tick": time}


def batch_of(rows: list[Row]) -> tuple[Batch, list[int]]:
    """Rows and ticks as one batch, and the places of its rows. A tick must be the last of its task."""
    order = sorted((i for i, one in enumerate(rows) if "tick" not in one), key=lambda i: rows[i]["task"])
    mine = [rows[i] for i in order]
    spans = []
    for task in sorted({one["task"] for one in mine}):
        places = [i for i, one in enumerate(mine) if one["task"] == task]
        spans.append(TaskRows(task, places[0], places[-1] + 1))
    columns = {
        "key": column("string", [one["key"] for one in mine]),
        "value": column("int64", [one["value"] for one in mine]),
        "id": column("string", [one["id"] for one in mine]),
        **{name: column("bool", [one[name] for one in mine]) for name in ("where", "after", "without")},
    }
    times = np.array([one["time"] for one in mine], np.int64)
    ticks = tuple(TaskTick(one["task"], one["tick"]) for one in rows if "tick" in one)
    return Batch(len(mine), tuple(spans), times, ["" for _ in mine], columns, ticks), order


class Worker:
    """One operator with its state and stores; `again` is a process that starts from what was flushed."""

    def __init__(self, spec: TimedSpec, tasks: int = 1, disk: MemoryDisk | None = None, memory: int = 0) -> None:
        self.spec, self.operator, self.tasks, self.memory = spec, TimedOperator(spec), tasks, memory
        self.disk = disk or MemoryDisk(random.Random(0))
        self.stores = MemoryRowStores(self.disk)
        self.state = WorkerState(self.operator.tables, memory_bytes=memory)
        self.open = {task: self.stores.open(task) for task in range(tasks)}
        for task, store in self.open.items():
            self.state.add_task(task, store)

    def process(self, rows: list[Row]) -> tuple[list[Emitted], list[int]]:
        """One batch, not yet published."""
        batch, order = batch_of(rows)
        self.operator.process(batch, self.state)
        return batch.emitted, order

    def flush(self) -> None:
        for task, store in self.open.items():
            cut = self.state.cut(task, b"m")
            cut.write(store)
            cut.written()

    def again(self) -> Worker:
        self.flush()
        for store in self.open.values():
            store.close()
        self.stores.close()
        return Worker(self.spec, self.tasks, self.disk, self.memory)

    def forget(self) -> None:
        """Every key leaves memory."""
        self.flush()
        for _ in range(3):
            self.state.publish()
        part = self.state._tables["timed." + self.spec.name]
        while part.evict():
            pass


def plain(said: Fired | Missed, rule: Any) -> tuple[Any, ...]:
    """As the oracle says it."""
    if isinstance(said, Missed):
        return ("missed", *said)
    if isinstance(rule, AbsenceSpec):
        return ("absent", said.start, said.end, said.id)
    return ("result", said.start, said.end, said.values, said.revision, said.replaces)


def run(
    rule: Any, disorder: int, rows: list[Row], cut: int = 1, *, restore: bool = False, undo: bool = False,
    forget: bool = False,
) -> dict[int, list[tuple[Any, ...]]]:  # fmt: skip
    """What is said, by task; the indices are those of each task's own rows. `cut` 0: all rows at once.

    `restore`: a new process between any two batches (of all rows at once: between any two rows, a run for each place;
    all must say the same); `undo`: each batch first runs with the rows after it, and is undone; `forget`: all keys
    leave memory between two batches.
    """
    if cut or not restore:
        return run_batches(rule, disorder, rows, cuts(rows, cut or max(1, len(rows))), restore, undo, forget)
    said = run(rule, disorder, rows, 0, undo=undo, forget=forget)
    for place in range(1, len(rows)):
        parts = [part for half in (rows[:place], rows[place:]) for part in cuts(half, len(half))]
        assert run_batches(rule, disorder, rows, parts, True, undo, forget) == said, f"restored before row {place}"
    return said


def run_batches(
    rule: Any, disorder: int, rows: list[Row], parts: list[list[Row]], restore: bool, undo: bool, forget: bool
) -> dict[int, list[tuple[Any, ...]]]:
    """The same of rows that are cut into `parts`."""
    tasks = max((one["task"] for one in rows), default=0) + 1
    worker = Worker(TimedSpec("w", "key", "key", rule, disorder, "id"), tasks)
    said: dict[int, list[tuple[Any, ...]]] = {}
    seen = dict.fromkeys(range(tasks), 0)
    for part in parts:
        if undo:
            worker.process(part)
            worker.state.undo()
        emitted, order = worker.process(part)
        worker.state.publish()
        place = {i: seen[one["task"]] + sum(other["task"] == one["task"] for other in part[:i])
                 for i, one in enumerate(part)}  # fmt: skip
        for task, _, key, at, _, what in emitted:
            index = place[order[at]] if at < len(order) else seen[task] + sum(o["task"] == task for o in part) - 1
            said.setdefault(task, []).append((index, key, *plain(what, rule)))
        for one in part:
            seen[one["task"]] += 1
        if restore:
            worker = worker.again()
        if forget:
            worker.forget()
    return said


def cuts(rows: list[Row], size: int) -> list[list[Row]]:
    """Batches of `size`, shorter where a tick ends one: it comes after its task's rows."""
    out: list[list[Row]] = [[]]
    for one in rows:
        if len(out[-1]) >= size or any("tick" in other and other["task"] == one["task"] for other in out[-1]):
            out.append([])
        out[-1].append(one)
    return out


def results(said: dict[int, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """All of it without the indices, by task."""
    return [one[1:] for task in sorted(said) for one in said[task]]
