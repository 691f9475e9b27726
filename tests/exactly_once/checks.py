"""The verifier's judgement of one partition: decisions, dead letters and journal against the oracle. Pure.

A decision is named by (id, card, event time); where an input is repeated, the n-th decision of a name belongs to
the n-th record of it. So a duplicate or a missing decision is counted once and does not shift the others.
"""

from __future__ import annotations

__all__ = ["Entry", "Findings", "PartitionData", "check_partition"]

import hashlib
import json
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from tests.exactly_once.readers import Record
from tests.oracle.card_job import Expected, expect

EXAMPLES_MAX = 10
_INEXACT = "speed_kmh"
Name = tuple[Any, Any, Any]


class PartitionData(NamedTuple):
    """All committed records of one of a pipeline's `partitions`, and the group's offset with its metadata.

    `deadline_ms`: decided more than that after it came to the log, a record is late; 0: none is.
    """

    topic: str
    partition: int
    source: list[Record]
    decisions: list[Record]
    dead_letters: list[Record]
    journal: list[Record]
    committed: tuple[int, str] | None
    partitions: int
    deadline_ms: int = 0


@dataclass
class Findings:
    """What was counted; `faults` must stay empty but for its zeros, `examples` say where to look first."""

    records: int = 0
    decisions: int = 0
    dead_letters: int = 0
    repeated: int = 0
    late: int = 0
    transactions: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    missing: int = 0
    mismatches: int = 0
    out_of_order: int = 0
    wrong_dead_letters: int = 0
    broken_journal: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, int]:
        """The counts that must be 0."""
        names = ("duplicates", "missing", "mismatches", "out_of_order", "wrong_dead_letters", "broken_journal")
        return {name: getattr(self, name) for name in names}

    def say(self, text: str) -> None:
        """Keep an example."""
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(text)

    def add(self, other: Findings) -> None:
        """Add up, partition by partition."""
        for spec in fields(self):
            value = getattr(self, spec.name)
            setattr(self, spec.name, value + getattr(other, spec.name))


def check_partition(data: PartitionData) -> Findings:
    """I1, I2, I4, I5 and I7 of one partition."""
    expected = expect([(record.offset, record.value, record.timestamp) for record in data.source])
    found = Findings(len(data.source), len(data.decisions), len(data.dead_letters), len(expected.duplicates))
    late = _late(data, expected)
    found.late = len(late - expected.duplicates)
    _check_decisions(data, expected, late, found)
    _check_dead_letters(data, expected, found)
    _check_journal(data, expected, late, found)
    return found


def _late(data: PartitionData, expected: Expected) -> set[int]:
    """The offsets of records that were decided past their deadline, by the times of the log's records."""
    if not data.deadline_ms:
        return set()
    times: dict[Name, list[int]] = defaultdict(list)
    for record in data.decisions:
        times[_name(json.loads(record.value))].append(record.timestamp)
    came = {record.offset: record.timestamp for record in data.source}
    late, seen = set[int](), Counter[Name]()
    for offset, decision in sorted(expected.decisions.items()):
        name = _name(decision)
        mine = times[name][seen[name] :]
        seen[name] += 1
        if mine and came[offset] + data.deadline_ms < mine[0]:
            late.add(offset)
    return late


# ---- decisions


def _check_decisions(data: PartitionData, expected: Expected, late: set[int], found: Findings) -> None:
    wanted: dict[Name, list[dict[str, Any]]] = defaultdict(list)
    order: dict[Any, list[Name]] = defaultdict(list)
    for offset, decision in sorted(expected.decisions.items()):
        if offset in expected.duplicates:
            decision = {**decision, "duplicate": True}
        elif offset in late:
            decision = {**decision, "late_answer": True}
        wanted[_name(decision)].append(decision)
        order[decision["card_id"]].append(_name(decision))
    got: dict[Name, list[dict[str, Any]]] = defaultdict(list)
    got_order: dict[Any, list[Name]] = defaultdict(list)
    for record in data.decisions:
        decision = json.loads(record.value)
        found.actions[str(decision.get("decision"))] += 1
        got[_name(decision)].append(decision)
        got_order[decision.get("card_id")].append(_name(decision))
        if record.key != str(decision.get("card_id")).encode():
            found.mismatches += 1
            found.say(f"decisions-{data.partition}@{record.offset}: its key is not its card")
    for name in wanted.keys() | got.keys():
        _compare(name, wanted.get(name, []), got.get(name, []), found)
    for card, names in order.items():
        if got_order.get(card) != names and Counter(got_order.get(card, [])) == Counter(names):
            found.out_of_order += 1
            found.say(f"card {card}: decided in another order than it came")


def _name(decision: dict[str, Any]) -> Name:
    return decision.get("transaction_id"), decision.get("card_id"), decision.get("event_time")


def _compare(name: Name, wanted: list[dict[str, Any]], got: list[dict[str, Any]], found: Findings) -> None:
    if len(got) > len(wanted):
        found.duplicates += len(got) - len(wanted)
        found.say(f"{name}: {len(got)} decisions, expected {len(wanted)}")
    if len(got) < len(wanted):
        found.missing += len(wanted) - len(got)
        found.say(f"{name}: {len(got)} decisions, expected {len(wanted)}")
    for mine, theirs in zip(got, wanted, strict=False):
        if mine.keys() != theirs.keys() or not all(_same(key, mine[key], theirs[key]) for key in theirs):
            found.mismatches += 1
            found.say(f"{name}: {mine} expected {theirs}")


def _same(name: str, got: object, wanted: object) -> bool:
    if name == _INEXACT and isinstance(got, int | float) and isinstance(wanted, int | float):
        return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return got == wanted and isinstance(got, bool) == isinstance(wanted, bool)


# ---- dead letters


def _check_dead_letters(data: PartitionData, expected: Expected, found: Findings) -> None:
    letters: Counter[int] = Counter()
    for record in data.dead_letters:
        letter = json.loads(record.value)
        letters[letter["offset"]] += 1
        fine = (letter["topic"], letter["partition"]) == (data.topic, data.partition)
        if not fine or not letter["reason"] or letter["reason"] == "operator_failed":
            found.wrong_dead_letters += 1
            found.say(f"dead letter of offset {letter['offset']}: {letter['reason']} {letter['topic']}")
    wrong = {offset for offset in letters.keys() | expected.dead if letters[offset] != (offset in expected.dead)}
    found.wrong_dead_letters += len(wrong)
    if wrong:
        found.say(f"{data.topic}-{data.partition}: dead letters missing or too many at {sorted(wrong)[:5]}")


# ---- journal


class Entry(NamedTuple):
    """A journal record's body."""

    version: int
    task: int
    sequence: int
    ranges: list[tuple[str, int, int]]
    rejected: list[tuple[int, int]]
    duplicates: list[tuple[int, int]]
    actions: bytes
    state_fingerprint: str
    decision_fingerprint: str
    numerics: str
    exact: bytes
    output: bytes
    block: bytes
    tick: int | None
    late: bytes
    tables: list[tuple[str, int]]


class _Progress:
    """How far the journal has accounted for input and decisions."""

    def __init__(self, data: PartitionData, expected: Expected, late: set[int]) -> None:
        self._decided, self._late = sorted(expected.decisions), late
        self.chain = bytes(32)
        self.sequence = -1
        self.position = data.source[0].offset if data.source else 0
        self.dead: set[int] = set()
        self.duplicates: set[int] = set()
        self.offset = self.previous_offset = -1
        self._offsets = [record.offset for record in data.source]
        self._decisions = iter(data.decisions)

    def problems(self, data: PartitionData, record: Record) -> Iterator[str]:
        """What is wrong with the next journal record, in words."""
        body, chain = record.headers.get("journal", b""), record.headers.get("chain", b"")
        try:
            entry = msgspec.msgpack.decode(body, type=Entry)
        except msgspec.DecodeError as error:
            yield f"it cannot be read: {error}"
            return
        if chain != hashlib.sha256(self.chain + body).digest():
            yield "its link does not follow from the one before"
        if (entry.task, entry.sequence) != (data.partition, self.sequence + 1):
            yield f"sequence {entry.sequence} of task {entry.task} follows {self.sequence}"
        if [topic for topic, _, _ in entry.ranges] != [data.topic] or entry.ranges[0][1] != self.position:
            yield f"its ranges {entry.ranges} do not begin at {self.position}"
        texts = [decision.value for decision in islice(self._decisions, len(entry.actions))]
        if hashlib.sha256(b"\n".join(texts)).digest() != entry.output:
            yield "its output digest is not that of the decisions"
        if hashlib.sha256(record.value).digest() != entry.block:
            yield "its block digest is not that of its value"
        start, stop = entry.ranges[0][1], entry.ranges[-1][2]
        if len(entry.actions) + len(entry.rejected) != stop - start:
            yield f"{len(entry.actions)} actions and {len(entry.rejected)} rejects for {start}..{stop}"
        rows = self._decided[bisect_left(self._decided, start) : bisect_left(self._decided, stop)]
        bits = int.from_bytes(entry.late, "little")
        if bits != sum(1 << place for place, offset in enumerate(rows) if offset in self._late):
            yield "other rows are late, by the times of the log, than those that it names"
        self.dead.update(offset for _, offset in entry.rejected)
        self.duplicates.update(offset for _, offset in entry.duplicates)
        self.chain, self.sequence, self.position = chain, entry.sequence, stop
        self.previous_offset, self.offset = self.offset, record.offset

    def ends_well(self, data: PartitionData, expected: Expected) -> Iterator[str]:
        """What is wrong at the end."""
        end = self._offsets[-1] + 1 if self._offsets else self.position
        if self.position != end:
            yield f"it covers the input to {self.position} of {end}"
        if self.dead != expected.dead or self.duplicates != expected.duplicates:
            yield "its rejects or duplicates are not the oracle's"
        if next(self._decisions, None) is not None:
            yield "there are decisions that no record of it covers"
        named = f"1:{self.sequence}:{self.previous_offset}:{self.chain.hex()}:-1:{data.partitions}"
        if data.source and data.committed != (end, named):
            yield f"the group's offset is {data.committed}, expected {(end, named)}"


def _check_journal(data: PartitionData, expected: Expected, late: set[int], found: Findings) -> None:
    progress = _Progress(data, expected, late)
    found.transactions = len(data.journal)
    for record in data.journal:
        for problem in progress.problems(data, record):
            found.broken_journal += 1
            found.say(f"journal-{data.partition}@{record.offset}: {problem}")
    for problem in progress.ends_well(data, expected):
        found.broken_journal += 1
        found.say(f"journal-{data.partition}: {problem}")
