"""The `events:` of a case -> records, as a producer would write them."""

from __future__ import annotations

__all__ = ["WORDS", "Events", "read_base", "streams_given"]

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from operators.call_values import ValueFaultError, as_declared
from operators.plan import Plan, calls_of, streams_of
from operators.schema import FieldSpec, Kind, StreamSchema
from state.errors import ConfigError
from streamproc.language.cases.change_events import change_event
from streamproc.language.cases.model import Given
from streamproc.language.cases.values import read_given, read_time
from streamproc.language.reader import Reader, Section, choice, duration, flag, text, whole
from streamproc.language.yaml_tree import Node

REPEAT_MAX = 10_000
RECORDS_MAX = 20_000
"""Records of one case."""
_FIRST_NUMBER = 1_000_000_001
"""Ids that the case does not give count from here where they are numbers."""
WORDS = ("event", "at", "repeat", "every", "logged", "record", "fields", "stream", "late_answer")
"""What an event may say besides its fields."""

Fields = dict[str, Node]
Streams = Mapping[str, StreamSchema]
"""By name, the one that is decided first."""


def streams_given(plans: Sequence[Plan]) -> Streams:
    """What events may give, by stream: its fields; of the one that is decided also what services that are called
    return. `plans`: of the stages.
    """
    decided = plans[0].stream
    with_answers = replace(decided, fields=(*decided.fields, *_returned(plans)))
    return {**streams_of(plans), decided.name: with_answers}


def _returned(plans: Sequence[Plan]) -> list[FieldSpec]:
    return [field for call in calls_of(plans) for field in call.returns]


def read_base(section: Section, streams: Streams, below: Fields, start: int) -> Fields:
    """The `base:` of a case over that of its file, `below`; `start` as in `read_given`."""
    node = section.node("base")
    if node is None:
        return below
    base = Section(node, "base", section.problems)
    found = {name: value for schema in streams.values() for name, value in _fields(base, schema).items()}
    base.close()
    ids, times = ({getattr(schema, role) for schema in streams.values()} for role in ("id", "event_time"))
    types = {field.name: field.type for schema in streams.values() for field in schema.fields}
    for name, value in found.items():
        if name in ids | times:
            hint = "start: sets the first event's" if name in times else "each event gets one of its own"
            section.problems.add(f"{name} cannot be the same for all events", base.key_place(name), hint)
        with section.problems.caught():
            read_given(value, name, types[name], start, 1)
    return below | found


def _fields(section: Section, schema: StreamSchema, but: tuple[str, ...] = ()) -> Fields:
    """The fields of the stream that `section` gives; all of them count as known to it."""
    found = {field.name: section.node(field.name) for field in schema.fields if field.name not in but}
    return {name: node for name, node in found.items() if node is not None}


def _told(schema: StreamSchema, values: Mapping[str, Any]) -> dict[str, Any]:
    """The record that a producer would send."""
    if schema.format == "debezium":
        return change_event(schema, values)
    return {field.source: values[field.name] for field in schema.fields if values.get(field.name) is not None}


class _Entry(NamedTuple):
    """One entry of `events:`; times in ms. `record`: the text of a record that is given as it is."""

    label: str
    copies: int
    every: int
    at: int | None
    logged: int | None
    record: str | None
    late: bool
    fields: Fields
    schema: StreamSchema


class Events:
    """Collects the records of one case. `labels`: the index of the record that a name in `expect:` stands for."""

    def __init__(self, plans: Sequence[Plan], base: Fields, start: int) -> None:
        """`plans`: of the stages; `start`: ms, what relative times count from."""
        self._streams = streams_given(plans)
        self._answers = {field.name: field for field in _returned(plans)}
        self._base = base
        self._deadline = plans[-1].decision.deadline_ms
        self._start = start
        self._clock = start
        self._entries = 0
        self.given: list[Given] = []
        self.labels: dict[str, int] = {}

    def add(self, section: Section) -> None:
        """Read one entry of `events:`, which may stand for many records; what is wrong goes to its problems."""
        errors = section.problems.errors
        before = len(errors)
        self._entries += 1
        name = section.get("event", text, None)
        if name is not None and (name in self.labels or "[" in name):
            wrong = "is the name of an event before" if name in self.labels else "cannot be a name: [2] is a copy's"
            section.problems.add(f"event: {name!r} {wrong}", section.key_place("event"))
        entry = self._entry(section, name or f"event {self._entries}")
        if len(self.given) + entry.copies > RECORDS_MAX:
            section.problems.add(f"a case has at most {RECORDS_MAX} records", section.place)
        first, clock = len(self.given), self._clock
        for copy in range(entry.copies if len(errors) == before else 1):
            with section.problems.caught():
                self._record(entry, copy, clock)
            if len(errors) > before:
                break
        if name is not None:
            self.labels[name] = max(first, len(self.given) - 1)
            for copy in range(entry.copies if entry.copies > 1 else 0):
                self.labels[f"{name}[{copy + 1}]"] = first + copy

    def _entry(self, section: Section, label: str) -> _Entry:
        streams = self._streams
        name = section.get("stream", choice("stream", *streams), next(iter(streams))) if len(streams) > 1 else ""
        schema = streams.get(name, next(iter(streams.values())))
        entry = _Entry(
            label=label,
            copies=section.get("repeat", whole(1, REPEAT_MAX), 1),
            every=section.get("every", duration, 0),
            at=section.get("at", self._time("at"), None),
            logged=section.get("logged", self._time("logged"), None),
            record=section.get("record", text, None),
            late=section.get("late_answer", flag, False),
            fields=self._own(section, schema),
            schema=schema,
        )
        section.close()
        if "every" in section and "repeat" not in section:
            section.problems.add("every: without repeat", section.key_place("every"), "repeat: 5, every: 10s")
        if entry.late and (not self._deadline or schema is not next(iter(streams.values()))):
            what = "this stream is not decided" if self._deadline else "the pipeline has no deadline"
            section.problems.add(f"late_answer: {what}", section.key_place("late_answer"))
        if entry.record is not None and entry.fields:
            name = next(iter(entry.fields))
            section.problems.add(f"{name} stands beside record", section.key_place(name), "its text is all there is")
        if entry.at is not None and schema.event_time in entry.fields:
            hint = f"at: is the {schema.event_time}"
            section.problems.add("the time is given twice", section.key_place("at"), hint)
        return entry

    def _time(self, key: str) -> Reader[int | None]:
        return lambda node: read_time(node, key, self._start)

    @staticmethod
    def _own(section: Section, schema: StreamSchema) -> Fields:
        found = _fields(section, schema, WORDS)
        if (node := section.node("fields")) is not None:
            inner = Section(node, "fields", section.problems)
            found |= _fields(inner, schema)
            inner.close()
        return found

    def _record(self, entry: _Entry, copy: int, clock: int) -> None:
        """The record of one copy, counted from 0; `clock`: the time of the event before the entry."""
        schema, after = entry.schema, copy * entry.every
        given = clock if entry.at is None else entry.at
        time: int | None = given + after
        values = self._values(entry, copy)
        answers = self._answered(entry, values)
        if entry.record is None:
            if schema.event_time in values:
                time = None if (own := values[schema.event_time]) is None else own + after
            values[schema.event_time] = time
            value = msgspec.json.encode(_told(schema, values))
        else:
            value = entry.record.encode()
        self._clock = clock if time is None else time
        logged = self._clock if entry.logged is None else entry.logged + after
        label = f"{entry.label}[{copy + 1}]" if entry.copies > 1 else entry.label
        self.given.append(Given(label, value, logged, schema.name, answers, entry.late))

    def _answered(self, entry: _Entry, values: dict[str, Any]) -> dict[str, Any]:
        """Takes what services say out of an event's values."""
        found = {name: values.pop(name) for name in self._answers if values.get(name) is not None}
        for name, value in found.items():
            told = Decimal(bytes(value).decode()) if isinstance(value, msgspec.Raw) else value
            try:
                (found[name],) = as_declared([self._answers[name]], [told])
            except ValueFaultError:
                place = (self._base | entry.fields)[name].place
                raise ConfigError(f"{name} is {self._answers[name].type}, no service can say this", place) from None
        return found

    def _values(self, entry: _Entry, copy: int) -> dict[str, Any]:
        schema, number = entry.schema, len(self.given)
        is_number = schema.field(schema.id).type.kind is Kind.INT64
        values: dict[str, Any] = {schema.id: _FIRST_NUMBER + number if is_number else f"record-{number + 1}"}
        base = {name: node for name, node in self._base.items() if any(field.name == name for field in schema.fields)}
        for name, node in (base | entry.fields).items():
            values[name] = read_given(node, name, schema.field(name).type, self._start, copy + 1)
        return values
