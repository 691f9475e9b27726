"""What a table of limits and a reputation add to the benchmark's job. Imports nothing of ours.

A payment above its card's limit is declined; one of a device with a reputation of 80 or more is reviewed.
"""

from __future__ import annotations

__all__ = ["answer", "reputation"]

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.oracle.card_job import Expected

_REVIEWED = 80


class _Read(Protocol):
    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes: ...


def reputation(device: str) -> int:
    """What the service says, from 0 to 99."""
    return zlib.crc32(device.encode()) % 100


def answer(
    expected: Expected, source: Sequence[_Read], limit: Callable[[int, str], int | None], *, called: bool
) -> None:
    """Change what is expected. `limit`: of the row at an offset, by its card; `called`: rows have a reputation."""
    values = {record.offset: record.value for record in source}
    actions: dict[str, str] = {}
    for offset in sorted(expected.decisions):
        decision = expected.decisions[offset]
        name = decision["transaction_id"]
        if offset in expected.duplicates:
            decision["decision"] = actions[name]
            continue
        found = json.loads(values[offset])
        top = limit(offset, decision["card_id"])
        if top is not None and decision["amount"] > top:
            decision["reasons"].append("limit")
            decision["decision"] = "decline"
        if called and found["reputation"] is not None and found["reputation"] >= _REVIEWED:
            decision["reasons"].append("reputed")
            decision["decision"] = "review" if decision["decision"] == "approve" else decision["decision"]
        actions[name] = decision["decision"]
