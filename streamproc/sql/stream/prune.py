"""Leaves out the columns that nobody reads."""

from __future__ import annotations

__all__ = ["pruned"]

from collections.abc import Collection, Sequence

from operators.expressions.nodes import ROW_TIME
from operators.statements.spec import Computed, Renamed, Step


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
