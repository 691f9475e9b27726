"""Leaves out the columns that nobody reads."""

from __future__ import annotations

__all__ = ["pruned", "read_of"]

from collections.abc import Collection, Sequence

from operators.expressions.nodes import ROW_TIME
from operators.statements.spec import Computed, Input, Renamed, Rows, Step, Union


def pruned(steps: Sequence[Step], wanted: Collection[str]) -> tuple[tuple[Step, ...], frozenset[str]]:
    """The steps that still give the `wanted` columns, and the columns that they read."""
    needed = set(wanted)
    kept: list[Step] = []
    for step in reversed(steps):
        if isinstance(step, Renamed):
            pairs = tuple((new, key) for new, key in step.columns if new in needed)
            needed = {key for _, key in pairs}
            kept.append(Renamed(pairs))
            continue
        if isinstance(step, Computed):
            expressions = []
            for key, compiled in reversed(step.expressions):
                if key in needed:
                    needed.discard(key)
                    needed.update(compiled.inputs)
                    expressions.append((key, compiled))
            if not expressions:
                continue
            kept.append(Computed(tuple(reversed(expressions)), step.time))
        else:
            needed.update(step.condition.inputs)
            kept.append(step)
        if step.time:
            needed.add(step.time)
    needed.discard(ROW_TIME)
    return tuple(reversed(kept)), frozenset(needed)


def read_of(source: Input, wanted: Collection[str]) -> Input:
    """The source with the `wanted` columns only."""
    if isinstance(source, Rows):
        return _narrowed(source, wanted)
    branches = []
    for rows, steps in source.branches:
        kept, read = pruned(steps, wanted)
        branches.append((_narrowed(rows, read), kept))
    return Union(tuple(branches))


def _narrowed(rows: Rows, wanted: Collection[str]) -> Rows:
    return Rows(tuple((key, name) for key, name in rows.columns if key in wanted), rows.stream)
