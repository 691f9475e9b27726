"""What the judge looks at where there is a deadline: which rows are late, and that the journal says so."""

from __future__ import annotations

__all__ = ["judge_bits", "judge_late"]

import json
from collections.abc import Sequence

from operators.plan import Plan
from streamproc.runtime.journal import JournalEntry
from tests.oracle import late as oracle
from tests.oracle.card_job import Expected
from tests.simulation.parts import Record


def judge_late(
    plan: Plan, number: int, expected: Expected, source: Sequence[Record], decided: Sequence[Record]
) -> set[int]:
    """The offsets that are late, by the times of records and decisions; what is expected changes by it."""
    if not plan.decision.deadline_ms:
        return set()
    came = {record.offset: record.timestamp for record in source}
    if number:
        came = {record.offset: json.loads(record.value)["_arrived"] for record in source}
    times = dict.fromkeys(expected.decisions, 0)
    times |= dict(zip(sorted(expected.decisions), (record.timestamp for record in decided), strict=False))
    return oracle.answer(expected, came, times, plan.decision.deadline_ms)


def judge_bits(number: int, entry: JournalEntry, expected: Expected, late: set[int]) -> list[str]:
    """Whether a journal record says the same of its rows."""
    (wanted,) = entry.ranges
    rows = [offset for offset in sorted(expected.decisions) if wanted.start <= offset < wanted.stop]
    bits = int.from_bytes(entry.late, "little")
    said = {offset for place, offset in enumerate(rows) if bits >> place & 1}
    if said != late & set(rows) or bits >> len(rows):
        return [f"journal record {number} says that {sorted(said)} are late, not {sorted(late & set(rows))}"]
    return []
