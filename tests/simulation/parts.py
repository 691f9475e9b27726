"""Rows in parts, as judges see them: put together and taken apart by code of their own."""

from __future__ import annotations

__all__ = ["in_parts", "whole_rows"]

import json
from collections.abc import Sequence
from typing import Any

from operators.plan import Plan
from tests.simulation.committed import Record


def whole_rows(plan: Plan, records: Sequence[Record]) -> list[Record]:
    """The rows of one partition, each in the place of its last part; those that a stage has refused are none."""
    if plan.gather is None:
        return list(records)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    rows: list[Record] = []
    for record in records:
        part = json.loads(record.value)
        parts = found.setdefault(part["_place"], {})
        parts[part["_part"]] = part
        if len(parts) == len(plan.gather.parts) and not any("_refused" in one for one in parts.values()):
            row = {name: value for number in sorted(parts) for name, value in parts[number].items()}
            for name in ("_place", "_part"):
                del row[name]
            rows.append(record._replace(value=json.dumps(row, separators=(",", ":")).encode()))
    return rows


def in_parts(plan: Plan, rows: Sequence[Record]) -> list[Record]:
    """Rows as the stages beside each other would hand them on: all of it first, then parts that add nothing."""
    if plan.gather is None:
        return list(rows)
    made: list[Record] = []
    for record in rows:
        row = json.loads(record.value)
        route = row.pop("_route")
        for number in range(len(plan.gather.parts)):
            part = row if number == 0 else {name: row[name] for name in ("transaction_id", "event_time")}
            named = {"_place": f"probe-{record.offset}", "_part": number, "_route": route}
            whole = (row | named) if number == 0 else named | part | {"_route": route}
            value = json.dumps(whole, separators=(",", ":"))
            made.append(Record(rows[0].offset + len(made), value.encode(), record.timestamp, []))
    return made
