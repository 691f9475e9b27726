"""What waits for time: units of its work a row, and bytes of a key, from how many events a key has a day.

Rows of a key are taken to come at random times (a Poisson process), and all of them to count: what `where:` leaves out,
and how often an absence's conditions hold, nobody knows beforehand.
"""

from __future__ import annotations

__all__ = ["timed_state", "timed_units"]

import math

from operators.timed.logic import KeyLogic, TimedRow
from operators.timed.operator import TimedOperator
from operators.timed.spec import PENDING_MAX, AbsenceSpec, TimedSpec, WindowKind, WindowSpec
from state.due import ENTRY_BYTES
from state.expiry import NEVER
from streamproc.language.costing.prediction import KeyState
from streamproc.language.costing.state import DAY_MS, memory_bytes, stored_bytes
from streamproc.language.costing.units import Units
from streamproc.language.items import KEY_TEXT

_BEGIN_MS = 1_767_225_600_000
_VALUE = 12_345
_ID = "payment-000001234567"


def timed_units(spec: TimedSpec, rate: float) -> Units:
    """Units of one window or absence a row; `rate`: events a key a day."""
    rule = spec.rule
    if isinstance(rule, AbsenceSpec):
        return Units({"timed": 1, "timed:absence": 1})
    units = Units({"timed": 1, "timed:result": _results(rule, rate)})
    if rule.kind is WindowKind.SESSION:
        return units + Units({"timed:session": 1})
    return units + Units({"timed:slice": _held(spec, rate)})


def timed_state(step: TimedOperator, rate: float) -> KeyState:
    """What a key of `rate` events a day keeps: slices, sessions that are not closed, or rows that wait."""
    spec = step.spec
    (table,) = step.tables
    entries = max(1, round(_held(spec, rate)))
    one, blob = (_blob_bytes(step.logic, spec.rule, number) for number in (1, entries))
    return KeyState(
        table=table.name,
        key=spec.key.removeprefix(KEY_TEXT),
        kept_ms=_kept_ms(spec),
        entries=entries,
        entry_bytes=(blob - one) // (entries - 1) if entries > 1 else one,
        bytes=memory_bytes(table, 0) + blob + ENTRY_BYTES,
        stored_bytes=stored_bytes(table, 0) + blob,
        ttl_ms=_kept_ms(spec),
    )


def _results(rule: WindowSpec, rate: float) -> float:
    """Windows with rows, a row: those that end a day, by how likely each has any."""
    a_ms = rate / DAY_MS
    if rule.kind is WindowKind.SESSION:
        return math.exp(-a_ms * rule.size)
    grown = range(rule.every, rule.size + 1, rule.every) if rule.kind is WindowKind.CUMULATE else [rule.size]
    every = rule.every if rule.kind is WindowKind.HOP else rule.size
    return sum(-math.expm1(-a_ms * length) for length in grown) / (a_ms * every)


def _kept_ms(spec: TimedSpec) -> int:
    """How long a row is remembered: to the end of its windows, by the watermark."""
    rule = spec.rule
    return (rule.within if isinstance(rule, AbsenceSpec) else rule.size + rule.lateness) + spec.disorder


def _held(spec: TimedSpec, rate: float) -> float:
    """Slices, sessions or waiting rows of a key when one of its rows comes, that one's included."""
    rule, a_ms, kept = spec.rule, rate / DAY_MS, _kept_ms(spec)
    if isinstance(rule, AbsenceSpec):
        return min(1 + a_ms * kept, PENDING_MAX)
    if rule.kind is WindowKind.SESSION:
        return 1 + a_ms * (kept - rule.size) * math.exp(-a_ms * rule.size)
    if rule.kind is WindowKind.CUMULATE:
        kept -= (rule.size - rule.every) // 2  # its windows begin anew together: slices are half as old
    return 1 + max(0, kept / rule.slice - 1) * -math.expm1(-a_ms * rule.slice)


def _blob_bytes(logic: KeyLogic[TimedRow], rule: WindowSpec | AbsenceSpec, entries: int) -> int:
    """Of a state that holds so many."""
    if isinstance(rule, AbsenceSpec):
        apart = 1
    else:
        apart = rule.size + 1 if rule.kind is WindowKind.SESSION else rule.slice
    state = logic.new()
    for number in range(entries):
        logic.row(state, TimedRow(_BEGIN_MS + number * apart, _VALUE, (True, False), _ID), NEVER)
    return len(logic.store(state))
