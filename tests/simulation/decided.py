"""Decisions that were committed, against what the oracle makes of their records."""

from __future__ import annotations

__all__ = ["judge_decisions"]

import json
import math
from collections.abc import Sequence

from tests.oracle.card_job import Expected
from tests.simulation.committed import Record

_CLOSE = 1e-9
_MORE = {"duplicate", "failed_calls"}
"""What a decision may say besides what the oracle makes of its record."""


def judge_decisions(expected: Expected, records: Sequence[Record], key: str) -> list[str]:
    """I1, I2, I4: one decision a valid offset, in offset order, equal in every field, under the `key` of its row."""
    wrong, found = [], [json.loads(record.value) for record in records]
    for record, got in zip(records, found, strict=True):
        if record.key != str(got.get(key)).encode():
            wrong.append(f"decision {record.offset} of {key} {got.get(key)} has the key {record.key!r}")
            break
    if len(found) != len(expected.decisions):
        wrong.append(f"{len(found)} decisions, expected {len(expected.decisions)}")
    for (offset, wanted), got in zip(sorted(expected.decisions.items()), found, strict=False):
        repeated = offset in expected.duplicates
        same = all(_same(got.get(k), v) for k, v in wanted.items()) and got.keys() <= wanted.keys() | _MORE
        if got.get("duplicate", False) != repeated or not same:
            wrong.append(f"offset {offset}: {got}, expected {wanted}, duplicate {repeated}")
            break
    return wrong


def _same(got: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(got, wanted, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return got == wanted
