"""Which rows of a batch have keys of which a table knows something: most may have none, and cost a look-up each."""

from __future__ import annotations

__all__ = ["known_rows"]

from collections.abc import Sequence

import numpy as np

from state.expiry import TaskSpan
from state.table import KeyedTable, Slots


def known_rows(table: KeyedTable, tasks: Sequence[TaskSpan], keys: list[str], wanted: list[int]) -> tuple[Slots, Slots]:
    """The rows, ascending, of whose keys there is something, in memory or in the store, and their slots.

    Keys of the rows `wanted` are created; others only of a task whose store may have keys that are not in memory.
    """
    rows, slots = list[Slots](), list[int]()
    for span in tasks:
        part = keys if len(tasks) == 1 else keys[span.start : span.stop]
        is_whole = table.loader is None or table.loader.is_whole(span.task)
        asked = [keys[row] for row in wanted if span.start <= row < span.stop] if is_whole else part
        mine = table.keys_of(span.task)
        if missing := [key for key in asked if key not in mine]:
            table.admit(span.task, missing)
            mine = table.keys_of(span.task)
        there = np.frombuffer(bytes(map(mine.__contains__, part)), np.bool_).nonzero()[0]
        rows.append(there if len(tasks) == 1 else there + span.start)
        slots += [mine[part[row]] for row in there.tolist()]
    found = np.array(slots, np.int64)
    table.used[found] = table.generation
    return rows[0] if len(rows) == 1 else np.concatenate([*rows, np.empty(0, np.int64)]), found
