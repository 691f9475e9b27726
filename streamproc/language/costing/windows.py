"""Look-back features -> units, from the layout that the operator itself computes by (operators/windows/layout.py)."""

from __future__ import annotations

__all__ = ["SHARED", "window_units"]

from collections.abc import Iterator

from operators.windows.layout import NOT_DELAYED, POSITIONS, FeaturePlan, Layout

SHARED = ""
"""Stands for all features of a layout: what a key costs, whatever is kept of it."""


def window_units(layout: Layout) -> dict[str, dict[str, float]]:
    """Feature (or SHARED) -> unit -> how many; what several features use is shared out among them."""
    found: dict[str, dict[str, float]] = {SHARED: {"window": 1.0}}
    users: dict[tuple[str, object], list[str]] = {}
    for plan in layout.plans:
        name = plan.feature.name
        found[name] = {f"window:result:{plan.feature.aggregate}": 1.0}
        for used in _parts(layout, plan):
            users.setdefault(used, []).append(name)
    for previous in layout.previous:
        found[previous.name] = {}
        users.setdefault(("window:previous", (previous.of, previous.where, previous.n)), []).append(previous.name)
    for (unit, _), names in users.items():
        for name in dict.fromkeys(names):
            found[name][unit] = found[name].get(unit, 0.0) + 1 / len(set(names))
    return found


def _parts(layout: Layout, plan: FeaturePlan) -> Iterator[tuple[str, object]]:
    """(unit, which one) of all that a feature reads."""
    for at in (plan.value, plan.counted, plan.high, plan.low):
        if 0 <= at < len(layout.differences):
            column, window = layout.differences[at]
            yield from _edges(window.lo, window.hi)
            if column != POSITIONS:
                yield "window:prefix", column
                yield "window:difference", at
    value = plan.value
    for unit, lookups, begin in (
        ("extreme", layout.extreme_lookups, layout.extreme_at),
        ("distinct", layout.distinct, layout.distinct_at),
        ("first_seen", layout.first_seen, layout.first_seen_at),
    ):
        if begin <= value < begin + len(lookups):
            column, window = lookups[value - begin]
            yield from _edges(window.lo, window.hi)
            yield "window:column:" + ("extreme" if unit == "extreme" else "hash"), column
            yield f"window:{unit}", value


def _edges(lo: int, hi: int) -> Iterator[tuple[str, object]]:
    yield "window:edge", lo
    if hi != NOT_DELAYED:
        yield "window:edge", hi
