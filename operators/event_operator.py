"""One event at a time: the scalar way to write an operator.

    columns --> Event (a dict of Python values) --+
                                                  +--> on_event --> outputs, checked --> columns
    the key's bytes --> state (msgspec Struct) ---+            +--> state, checked --> the key's bytes

State is bytes between any two rows, in one batch as in two: what a row gets from the rows of its key before it
cannot depend on where batches were cut, and a row that fails leaves nothing behind. That costs some microseconds a
row; an `Operator` (columnar) does not pay them.
"""

from __future__ import annotations

__all__ = [
    "BOOL",
    "FLOAT64",
    "INT64",
    "STRING",
    "TIMESTAMP",
    "Event",
    "EventOperator",
    "InputField",
    "OutputField",
    "decimal",
]

import os
import traceback
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, ClassVar, NamedTuple

import msgspec

from operators.batch import Batch
from operators.event_state import KeyMemory, StateCodec
from operators.event_values import UnfitError, column_of, physical, python_values
from operators.operator import (
    BOOL,
    FLOAT64,
    INT64,
    STRING,
    TIMESTAMP,
    InputField,
    Operator,
    OperatorContext,
    OutputField,
    decimal,
)
from operators.schema import Kind
from state.errors import ConfigError, RecordError, StreamprocError
from state.table import TableSpec

FAILED = "operator_failed"


class Event(dict[str, Any]):
    """The inputs of one row by name; `time` is its event time in ms since 1970 (UTC)."""

    __slots__ = ("time",)
    time: int


class _Failure(NamedTuple):
    row: int
    reason: str
    detail: str
    error: Exception


class EventOperator(Operator):
    """Subclass it, say what it reads, adds and remembers, and write `on_event`.

    Class attributes (or set in `__init__`, which gets the options of the pipeline as keyword arguments):

        inputs   names of columns; `InputField("amount", decimal(2))` also fixes the type
        outputs  `OutputField(name, type, nullable=True)` of each column it adds
        key      one of `inputs`, string or int64: state is kept for each of its values
        state    a `msgspec.Struct` class whose fields all have defaults: what is remembered of a key
        ttl      a timedelta: a key without a row for so long, in event time, counts as new

    >>> class Seen(msgspec.Struct):
    ...     count: int = 0
    >>> class Visits(EventOperator):
    ...     inputs = (InputField("card_id", STRING),)
    ...     outputs = (OutputField("visits", INT64, nullable=False),)
    ...     key = "card_id"
    ...     state = Seen
    ...     ttl = timedelta(days=30)
    ...
    ...     def on_event(self, event: Event, state: Seen) -> tuple[int]:
    ...         state.count += 1
    ...         return (state.count,)
    >>> Visits().tables[0].name
    'operator.visits'
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[OutputField, ...] = ()
    key: str | None = None
    state: type[msgspec.Struct] | None = None
    ttl: timedelta | None = None
    LAST_SEEN: ClassVar = "last_seen"

    @abstractmethod
    def on_event(self, event: Event, state: Any) -> Mapping[str, Any] | tuple[Any, ...]:
        """The outputs of one row: by name (what is missing is NULL), or all of them in order.

        Change `state` in place; it is None without a state class, and a new one that is not kept where the key is
        NULL. Values are those of `operators.event_values`. Look at nothing but the arguments and the options: no clock,
        no chance, no attribute that changes.

        Raises:
            RecordError: the row becomes a dead letter with this reason. So does it with `operator_failed` for any other
                exception, or a result that the outputs cannot hold; its key's state is as if the row had never come.
        """

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """One table if there is state; it is called after the first output, which is unique in a plan.

        Raises:
            ConfigError: the class attributes do not fit together.
        """
        table = self._declared.table
        return () if table is None else (table,)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        declared = self._declared
        inputs = self._read(batch)
        memory = None
        if declared.table is not None and declared.codec is not None and self.key is not None:
            memory = KeyMemory(context.table(declared.table.name), batch, inputs[self.key], declared.codec)
        results: list[tuple[Any, ...]] = []
        failures: list[_Failure] = []
        names, columns, times = tuple(inputs), list(inputs.values()), batch.event_time.tolist()
        for span in batch.tasks:
            # A task's later rows wait: upstream, too, they may depend on the row that goes.
            for row in range(span.start, span.stop):
                try:
                    event = Event(zip(names, [column[row] for column in columns], strict=True))
                    event.time = times[row]
                    results.append(self._one(declared, event, memory, row))
                except Exception as error:
                    failures.append(self._failure(row, error))
                    break
        if failures:
            _raise(failures)
        if memory is not None:
            memory.keep()
        for i, field in enumerate(self.outputs):
            batch.columns[field.name] = column_of(field.type, [result[i] for result in results])

    def _one(self, declared: _Declared, event: Event, memory: KeyMemory | None, row: int) -> tuple[Any, ...]:
        time = event.time
        if memory is None:
            return declared.outputs(self.on_event(event, None))
        state = memory.load(row, time)
        result = declared.outputs(self.on_event(event, state))
        memory.store(row, time, state)
        return result

    def _read(self, batch: Batch) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for name in self.inputs:
            column = batch.columns[name]
            if isinstance(name, InputField) and name.type != column.type:
                raise ConfigError(f"{type(self).__name__} reads {name} as {name.type}, but it is {column.type}")
            if name == self.key and column.type.kind not in (Kind.STRING, Kind.INT64):
                raise ConfigError(f"{type(self).__name__}: the key {name} is {column.type}, not string or int64")
            found[str(name)] = python_values(column)
        return found

    def _failure(self, row: int, error: Exception) -> _Failure:
        """What a dead letter may say: never a value."""
        name = type(self).__name__
        if isinstance(error, RecordError):
            return _Failure(row, error.reason, error.detail, error)
        if isinstance(error, StreamprocError):
            raise error
        if isinstance(error, UnfitError):
            return _Failure(row, FAILED, f"{name}: {error}", error)
        mine = getattr(type(self).on_event, "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        frame = [one for one in frames if mine is not None and one.filename == mine.co_filename] or frames
        place = f"{os.path.basename(frame[-1].filename)}:{frame[-1].lineno}"
        return _Failure(row, FAILED, f"{name}: {type(error).__name__} in {place}", error)

    @cached_property
    def _declared(self) -> _Declared:
        """The class attributes, checked once.

        Raises:
            ConfigError: they do not fit together.
        """
        return _Declared(self)


class _Declared:
    """What an operator declares, ready for use."""

    def __init__(self, operator: EventOperator) -> None:
        self._name = name = type(operator).__name__
        _check_columns(name, operator.inputs, operator.outputs)
        if any(waits(operator.on_event) for waits in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
            raise ConfigError(f"{name}: on_event must be a plain function", hint="no async, no yield")
        self.codec = None if operator.state is None else StateCodec(name, operator.state, _ttl_ms(name, operator.ttl))
        self.table = self._table(operator)
        self._names = tuple(field.name for field in operator.outputs)
        self._known = frozenset(self._names)
        self._fields: tuple[tuple[str, bool, Callable[[Any], Any]], ...] = tuple(
            (field.name, field.nullable, physical(field.type)) for field in operator.outputs
        )

    def _table(self, operator: EventOperator) -> TableSpec | None:
        if operator.state is None or operator.key is None:
            given = [what for what in ("key", "state", "ttl") if getattr(operator, what) is not None]
            if given:
                hint = "state needs a key (one of inputs) and a msgspec.Struct class; ttl is optional"
                raise ConfigError(f"{self._name} declares only {' and '.join(given)}", hint=hint)
            return None
        if operator.key not in operator.inputs:
            raise ConfigError(f"{self._name}: the key {operator.key} is not one of its inputs", hint="add it there")
        ttl = _ttl_ms(self._name, operator.ttl)
        fields = (EventOperator.LAST_SEEN,) if ttl else ()
        return TableSpec(f"operator.{operator.outputs[0].name}", operator.key, fields, blob=True, ttl_ms=ttl)

    def outputs(self, result: Any) -> tuple[Any, ...]:
        """A result of `on_event` as physical values, in order."""
        if isinstance(result, tuple):
            if len(result) != len(self._fields):
                raise UnfitError(f"{len(result)} results for {len(self._fields)} outputs")
            values: tuple[Any, ...] = result
        elif isinstance(result, Mapping):
            if not self._known >= result.keys():
                undeclared = sorted(str(name) for name in result.keys() - self._known)
                raise UnfitError(f"{', '.join(undeclared)} is not among the outputs ({', '.join(self._names)})")
            values = tuple(map(result.get, self._names))
        else:
            raise UnfitError(f"on_event must return a mapping or a tuple, not {type(result).__name__}")
        return tuple(map(_fit, self._fields, values))


def _fit(field: tuple[str, bool, Callable[[Any], Any]], value: Any) -> Any:
    name, nullable, convert = field
    try:
        found = convert(value)
    except UnfitError as error:
        raise UnfitError(f"output {name} {error}") from None
    if found is None and not nullable:
        raise UnfitError(f"output {name} is NULL (or not finite) but declared never to be")
    return found


def _check_columns(name: str, inputs: Any, outputs: Any) -> None:
    if not isinstance(inputs, tuple) or not all(isinstance(one, str) for one in inputs):
        raise ConfigError(f"{name}: inputs must be a tuple of names", hint='inputs = ("amount",), with its comma')
    if not isinstance(outputs, tuple) or not outputs or not all(isinstance(one, OutputField) for one in outputs):
        hint = 'outputs = (OutputField("risk", FLOAT64),)'
        raise ConfigError(f"{name}: outputs must be a tuple of one or more OutputField", hint=hint)
    names = [*inputs, *(field.name for field in outputs)]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise ConfigError(f"{name}: {', '.join(twice)} is named twice among inputs and outputs")


def _ttl_ms(name: str, ttl: Any) -> int:
    if ttl is None:
        return 0
    if not isinstance(ttl, timedelta) or ttl < timedelta(milliseconds=1):
        raise ConfigError(f"{name}: ttl must be a positive timedelta", hint="ttl = timedelta(days=30)")
    return ttl // timedelta(milliseconds=1)


def _raise(failures: list[_Failure]) -> None:
    """One error names rows of one reason; the others are found when the batch is run again without these."""
    first = failures[0]
    rows = tuple(failure.row for failure in failures if failure[1:3] == first[1:3])
    raise RecordError(first.reason, first.detail, rows) from first.error
