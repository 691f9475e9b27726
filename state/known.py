"""Which rows of a batch have keys of which a table knows something: most may have none, and cost a look-up each."""

from __future__ import annotations

__all__ = ["known_rows"]

from collections.abc import Sequence
from itertools import repeat

import numpy as np

from state.expiry import TaskSpan
from state.table import KeyedTable, Slots


def known_rows(table: KeyedTable, tasks: Sequence[TaskSpan], keys: list[str], wanted: list[int]) -> tuple[Slots, Slots]:
    """The rows, ascending, of whose keys there is something, in memory or in the store, and their slots.

    Keys of the rows `wanted` are created; others only of a task whose store may have keys that are not in memory.
    """
    found: list[int] = []
    for span in tasks:
        mine = table.keys_of(span.task)
        part = keys if len(tasks) == 1 else keys[span.start : span.stop]
        own = list(map(mine.get, part, repeat(-1)))
        if table.loader is not None and not table.loader.is_whole(span.task):
            asked = part
        else:
            asked = [keys[row] for row in wanted if span.start <= row < span.stop] if wanted else []
        if missing := [key for key in asked if key not in mine]:
            table.admit(span.task, missing)
            own = list(map(table.keys_of(span.task).get, part, repeat(-1)))
        found += own
    slots = np.array(found, np.int64)
    rows = (slots >= 0).nonzero()[0]
    slots = slots[rows]
    table.used[slots] = table.generation
    return rows, slots
