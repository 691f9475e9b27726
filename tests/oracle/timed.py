"""Windows that close and absences by brute force: every row looks at every row before it. Imports nothing of ours.

Input: one task's rows in row order, dicts: "key", "time", "value" (None: NULL), "where", "after", "without", "id"; a
clock tick is {"tick": stream time}. Output: (index of the row, key, kind of word, ...) in the order of saying.

A window is named (start, end); which windows a time belongs to is found by trying all begins, not by formulas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
Window = tuple[int, int]
NEVER = -(1 << 62)


def windows_of(rule: Any, time: int) -> list[Window]:
    """All windows that hold `time`, by end; every begin and end is tried."""
    kind, size, every, offset = str(rule.kind), rule.size, rule.every, rule.offset
    found = []
    for start in range(time - size, time + 1):
        step = every if kind == "hop" else size
        if (start - offset) % step:
            continue
        lengths = range(every, size + 1, every) if kind == "cumulate" else [size]
        found += [(start, start + length) for length in lengths if start <= time < start + length]
    return sorted(found, key=lambda window: window[1])


def values_of(rule: Any, rows: list[Row]) -> tuple[Any, ...]:
    """One value an aggregate; a mean is (sum, count)."""
    values = [row["value"] for row in rows if row["value"] is not None]
    if rule.different:
        return (len(set(values)),)
    known: dict[str, Any] = {
        "count": len(rows) if rule.of is None else len(values),
        "sum": sum(values) if values else None,
        "mean": (sum(values), len(values)) if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
    }
    return tuple(known[str(aggregate)] for aggregate in rule.aggregates)


def say_windows(rule: Any, disorder: int, rows: list[Row]) -> list[tuple[Any, ...]]:
    """Tumbling, hopping and cumulating windows."""
    said: list[tuple[Any, ...]] = []
    held: dict[tuple[str, Window], list[Row]] = {}
    told: dict[tuple[str, Window], int] = {}
    stream = NEVER

    def tell(index: int, key: str, window: Window) -> None:
        revision = told.get((key, window), 0)
        told[key, window] = revision + 1
        said.append((index, key, "result", *window, values_of(rule, held[key, window]), revision, ()))

    for index, row in enumerate(rows):
        before = stream - disorder
        if "tick" not in row and row["key"] is not None and row["where"]:
            key, mine = row["key"], windows_of(rule, row["time"])
            closed = [window for window in mine if window[1] + rule.lateness <= before]
            if closed:
                said.append((index, key, "missed", len(closed), len(mine), "too_late"))
            for window in mine:
                if window not in closed:
                    held.setdefault((key, window), []).append(row)
                    if window[1] <= before:
                        tell(index, key, window)
        stream = max(stream, row["tick"] if "tick" in row else row["time"])
        due = [one for one in held if before < one[1][1] <= stream - disorder]
        for key, window in sorted(due, key=lambda one: (one[1][1], one[0])):
            tell(index, key, window)
    return said


def say_sessions(rule: Any, disorder: int, rows: list[Row]) -> list[tuple[Any, ...]]:
    """Sessions: the rows that are not closed are grouped anew at each row."""
    said: list[tuple[Any, ...]] = []
    groups: dict[str, list[dict[str, Any]]] = {}
    stream = NEVER

    def span(rows: list[Row]) -> Window:
        times = [row["time"] for row in rows]
        return min(times), max(times) + rule.size

    def tell(index: int, key: str, group: dict[str, Any]) -> None:
        window = span(group["rows"])
        replaced = tuple(sorted(one for one in group["told"] if one != window))
        said.append((index, key, "result", *window, values_of(rule, group["rows"]), group["revision"], replaced))
        group["revision"] += 1
        group["told"] = [window]

    for index, row in enumerate(rows):
        before = stream - disorder
        if "tick" not in row and row["key"] is not None and row["where"]:
            key, time = row["key"], row["time"]
            open_ones = [one for one in groups.get(key, []) if span(one["rows"])[1] + rule.lateness > before]
            near = [one for one in open_ones if any(abs(time - other["time"]) <= rule.size for other in one["rows"])]
            if not near and time + rule.size + rule.lateness <= before:
                said.append((index, key, "missed", 1, 1, "too_late"))
            else:
                joined: dict[str, Any] = {
                    "rows": [row, *(other for one in near for other in one["rows"])],
                    "told": [window for one in near for window in one["told"]],
                    "revision": max((one["revision"] for one in near), default=0),
                }
                groups[key] = [one for one in open_ones if one not in near] + [joined]
                if span(joined["rows"])[1] <= before:
                    tell(index, key, joined)
        stream = max(stream, row["tick"] if "tick" in row else row["time"])
        due = [
            (span(one["rows"])[1], key, one)
            for key, mine in groups.items()
            for one in mine
            if before < span(one["rows"])[1] <= stream - disorder
        ]
        for _, key, one in sorted(due, key=lambda found: found[:2]):
            tell(index, key, one)
    return said


def say_absences(rule: Any, disorder: int, rows: list[Row], most: int = 1_000) -> list[tuple[Any, ...]]:
    """Absences: whoever waits looks at all rows so far."""
    said: list[tuple[Any, ...]] = []
    stream, within = NEVER, rule.within
    waiting: list[Row] = []
    seen: list[Row] = []

    def ended(one: Row) -> bool:
        return any(r["key"] == one["key"] and one["time"] < r["time"] < one["time"] + within for r in seen)

    for index, row in enumerate(rows):
        before = stream - disorder
        if "tick" not in row and row["key"] is not None:
            late = row["time"] + within <= before
            if row["without"] and row["time"] <= before - within:
                said.append((index, row["key"], "missed", 1, 1, "too_late"))
            elif row["without"]:
                seen.append(row)
                waiting = [one for one in waiting if not ended(one)]
            if row["after"] and late:
                said.append((index, row["key"], "missed", 1, 1, "too_late"))
            elif row["after"] and not ended(row):
                waiting.append(row)
        stream = max(stream, row["tick"] if "tick" in row else row["time"])
        due = [one for one in waiting if one["time"] + within <= stream - disorder]
        waiting = [one for one in waiting if one not in due]
        due.sort(key=lambda r: (r["time"] + within, r["key"], r["id"]))
        said += [(index, one["key"], "absent", one["time"], one["time"] + within, one["id"]) for one in due]
    return said


def say(rule: Any, disorder: int, rows: list[Row]) -> list[tuple[Any, ...]]:
    """What the rule says of one task's rows."""
    if hasattr(rule, "within"):
        return say_absences(rule, disorder, rows)
    return (say_sessions if str(rule.kind) == "session" else say_windows)(rule, disorder, rows)


def say_all(rule: Any, disorder: int, rows: list[Row]) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """The same for rows of several tasks ("task"); the indices are those of each task's own rows."""
    for task in sorted({row["task"] for row in rows}):
        yield task, say(rule, disorder, [row for row in rows if row["task"] == task])
