"""What a stage handed on, and what the next one must make of it, by oracles that share no code with the program."""

from __future__ import annotations

__all__ = ["as_first_read", "expect_stage", "judge_handoff", "judge_refusals"]

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from operators.plan import Plan
from state.hashing import partition_of
from tests.oracle.card_job import Expected, expect
from tests.oracle.hand_on import DECLARED, KEYS, expect_features
from tests.simulation.committed import Record

_ALWAYS = 1 << 62
"""A log time before which everything has happened: times are checked when a record first comes."""
_CARRIED = ("card_id", "device_n_10m", "device_s_24h", "device_last")
"""What decisions show of the stages before."""
_ADDED = ("reputation", "reputation_failed")
_GATHERED = {"again": ("terminal_n_1h", "terminal_cards_24h", "holder_n_1h", "holder_s_24h", "holder_scaled")}
"""What all branches of a second group have of the first one, by the stage whose part leaves it out."""
_Row = dict[str, Any]


def expect_stage(plan: Plan, number: int, source: Sequence[Record]) -> Expected:
    """What the oracle makes of one partition of the stage's source."""
    if plan.handoff is not None:
        return expect_features(plan.stage, _read(number, source))
    expected = expect(_read(number, source))
    if number:
        for record in source:
            _told(expected, record)
    return expected


def _told(expected: Expected, record: Record) -> None:
    """Decisions are keyed by what the first stage is keyed by, and show what the stages before have found."""
    event, decision = json.loads(record.value), expected.decisions[record.offset]
    blank = record.offset in expected.duplicates
    decision |= {name: None if blank else event[name] for name in _CARRIED}
    decision["device_id"] = event["device_id"]


def _read(number: int, source: Sequence[Record]) -> list[tuple[int, bytes, int]]:
    """The source as the oracle reads it; a later stage's without what it would not know a repeated record by."""
    if number == 0:
        return [(record.offset, record.value, record.timestamp) for record in source]
    return [(record.offset, as_first_read(record.value), _ALWAYS) for record in source]


def as_first_read(value: bytes) -> bytes:
    """A handed-on record's fields and digest: equal for records that were equal when they first came."""
    row = json.loads(value)
    return json.dumps({name: row[name] for name in (*DECLARED, "_digest")}).encode()


def judge_handoff(
    plan: Plan, following: Plan, number: int, *, sources: Mapping[int, Sequence[Record]],
    expected: Mapping[int, Expected], found: Mapping[int, Sequence[Record]],
) -> list[str]:  # fmt: skip
    """I1, I2, I4: each row that is not refused, once, in its partition, in the order of its source's, all fields equal.

    `sources` and `expected` by the stage's tasks, `found` by the next one's.
    """
    wanted, got = defaultdict[tuple[int, int], list[_Row]](list), defaultdict[tuple[int, int], list[_Row]](list)
    part = plan.handoff.part if plan.handoff is not None else None
    for task, records in sources.items():
        for row in _rows(plan, KEYS[following.stage], number, task, records=records, expected=expected[task]):
            wanted[task, partition_of(row["_route"].encode(), len(found))].append(row)
    came = _tasks(sources) if part is not None else {}
    for task, records in found.items():
        for record in records:
            row = json.loads(record.value)
            if part is None:
                got[partition_of(_route(row, KEYS[plan.stage]).encode(), len(sources)), task].append(row)
            elif row["_part"] == part and (row["_place"] in came or "_refused" not in row):
                got[came.get(row["_place"], -1), task].append(row)
    for rows in (*wanted.values(), *got.values()):  # those that were refused come behind the others of a transaction
        rows.sort(key=lambda row: row.get("_place", "") if "_refused" in row else "")
    wrong = []
    for way in sorted(wanted.keys() | got.keys()):
        told = _different(wanted[way], got[way], named=number == 0)
        wrong += [f"{plan.stage} {way[0]} to {following.stage} {way[1]}: {what}" for what in told]
    return wrong


def judge_refusals(
    plan: Plan, gathering: str, *, sources: Mapping[int, Sequence[Record]], expected: Mapping[int, Expected],
    found: Mapping[int, Sequence[Record]], last: Mapping[int, Sequence[Record]],
) -> list[str]:  # fmt: skip
    """I1: a stage within a branch tells of each row that it refuses, once; `found`: what is gathered, `last`: what the
    branch's last stage has read.
    """
    assert plan.handoff is not None
    assert plan.handoff.branch is not None
    number, came = plan.handoff.branch.number, _tasks(last)
    wanted = [
        _refusal(json.loads(record.value), number, KEYS[gathering])
        for task, records in sources.items()
        for record in records
        if record.offset in expected[task].dead
    ]
    marks = [json.loads(record.value) for records in found.values() for record in records]
    got = [row for row in marks if row["_part"] == number and "_refused" in row and row["_place"] not in came]
    one, other = sorted(wanted, key=lambda row: row["_place"]), sorted(got, key=lambda row: row["_place"])
    return [] if one == other else [f"{plan.stage} tells of {len(got)} refused rows, expected {len(wanted)}, or others"]


def _refusal(event: _Row, number: int, key: str) -> _Row:
    named = {name: event[name] for name in ("_place", "transaction_id", "event_time")}
    return named | {"_part": number, "_route": _route(event, key), "_refused": True}


def _tasks(sources: Mapping[int, Sequence[Record]]) -> dict[str, int]:
    """By what names a row on its way through stages beside each other: the task that one of them has it in."""
    return {json.loads(record.value)["_place"]: task for task, records in sources.items() for record in records}


def _rows(
    plan: Plan, key: str, number: int, task: int, *, records: Sequence[Record], expected: Expected
) -> Iterator[_Row]:
    """What is to be handed on, in order."""
    assert plan.handoff is not None
    part = plan.handoff.part
    asked_here = any(call.fork is None for call in plan.calls)
    shared = {
        *DECLARED,
        *_CARRIED,
        "_digest",
        "_arrived",
        *(() if asked_here else _ADDED),
        *_GATHERED.get(plan.stage, ()),
    }
    for record in records:
        if record.offset in expected.dead and part is None:
            continue
        event = json.loads(record.value)
        if part is not None:
            refusal = _refusal(event, part, key)
            if record.offset in expected.dead:
                yield refusal
            else:
                named = {name: value for name, value in refusal.items() if name != "_refused"}
                own = event if part == 0 else {name: event[name] for name in event if name not in shared}
                yield own | expected.decisions[record.offset] | named
            continue
        if number == 0:
            event = {name: event.get(name) for name in DECLARED} | {"_digest": record.value}
            if plan.handoff.arrived:
                event["_arrived"] = record.timestamp
        if plan.handoff.placed and "_place" not in event:
            event["_place"] = f"{task}-{record.offset}"
        yield event | expected.decisions[record.offset] | {"_route": _route(event, key)}


def _route(event: _Row, key: str) -> str:
    """What says to which partition a row is handed on: never empty, for it must be decided all the same."""
    found: str | None = event[key]
    return event["transaction_id"] if found is None else found or " "


def _different(wanted: Sequence[_Row], found: Sequence[_Row], *, named: bool) -> list[str]:
    """The first difference. `named`: a digest, which only the program knows, must be the same for the same record."""
    wrong = []
    if len(wanted) != len(found):
        wrong.append(f"{len(found)} rows handed on, expected {len(wanted)}")
    digests: dict[Any, Any] = {}
    for place, (row, got) in enumerate(zip(wanted, found, strict=False)):
        if named:
            row = row | {"_digest": digests.setdefault(row["_digest"], got.get("_digest"))}
        if row != got:
            wrong.append(f"row {place}: {got}, expected {row}")
            break
    if len(set(digests.values())) != len(digests):
        wrong.append("records that differ have the same digest")
    return wrong
