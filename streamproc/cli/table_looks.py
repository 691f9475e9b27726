"""A look at a table of a pipeline: its rows as text, and which of them hold."""

from __future__ import annotations

__all__ = ["RowLook", "TableLook", "look_at", "read", "read_topic", "time_of"]

import re
import sys
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np

from operators.batch import Column
from operators.expressions.clock import format_timestamp, parse_timestamp
from operators.expressions.registers import both
from operators.live_tables import TableRows
from operators.periods import EXPIRES, VALID_FROM
from operators.prefixes import NONE, Numbers
from operators.schema import Kind
from operators.tables import LookupTable
from state.errors import ConfigError, Place
from streamproc.cli.compose import open_log
from streamproc.cli.log_directory import refuse_missing_log
from streamproc.cli.loops import run_async
from streamproc.language import load_pipeline
from streamproc.language.csv_table import cell_value, empty_table, read_table
from streamproc.language.model import Table
from streamproc.language.problems import nearest
from streamproc.runtime.topic_tables import read_table_topic

_HOLDS, _EXPIRED, _LATER, _WIDER = "holds", "expired", "later", "wider"


class RowLook(msgspec.Struct, frozen=True):
    """A row. `state`: `holds`, `expired`, `later` (not valid yet), or `wider`: it holds, but a longer key counts."""

    state: str
    columns: dict[str, object]


class TableLook(msgspec.Struct, frozen=True):
    """Rows of a table at a time (RFC 3339); `found`: whether the key that was asked for finds one."""

    table: str
    at: str
    found: bool
    rows: list[RowLook]


def time_of(text: str | None) -> int:
    """The time that `--at` names, in ms; now if it names none.

    Raises:
        ConfigError: it is no time.
    """
    if text is None:
        return time.time_ns() // 1_000_000
    moment = int(text) if re.fullmatch(r"-?\d{1,15}", text) else parse_timestamp(text)
    if moment is None:
        raise ConfigError(f"--at: {text!r} is no time", hint="2026-05-03T10:00:00Z, or ms since 1970")
    return moment


def read(pipeline: str, name: str) -> LookupTable:
    """The table `name` of the pipeline file; nothing else of it is compiled.

    Raises:
        ConfigError: the pipeline has no such table, or one of its files is wrong.
    """
    table, folder = _declared(pipeline, name)
    return read_table(name, table, folder).table


def read_topic(pipeline: str, name: str, log_url: str) -> LookupTable:
    """The table as it stands in its topic; stderr names records that are refused.

    Raises:
        ConfigError: the pipeline has no such table, or it has no topic; the log is an embedded one that is not there.
        EventLogError: the log cannot be read.
    """
    table, _ = _declared(pipeline, name)
    if not table.topic:
        raise ConfigError(f"table {name} has no topic", table.place, "leave --log out")
    refuse_missing_log(log_url)
    rows = TableRows(empty_table(name, table).table.schema)

    async def all_of_it() -> None:
        log = open_log(log_url)
        try:
            await read_table_topic(log, table.topic, rows, lambda fault: sys.stderr.write(f"refused: {fault}\n"))
        finally:
            await log.close()

    run_async(all_of_it())
    return rows.snapshot()


def _declared(pipeline: str, name: str) -> tuple[Table, Path]:
    """The table, and the folder that its file is relative to."""
    loaded = load_pipeline(pipeline)
    if name not in loaded.tables:
        raise ConfigError(f"{pipeline} has no table {name!r}", hint=nearest(name, loaded.tables))
    return loaded.tables[name], Path(loaded.folder)


def look_at(table: LookupTable, key: str | None, at: int) -> TableLook:
    """All rows, or those that `key` finds, longest keys first; `at`: the event time, ms.

    Raises:
        ConfigError: `key` cannot be of the key's type.
    """
    if key is None:
        numbers, used = np.arange(len(table)), NONE
    else:
        value = _key(table, key)
        numbers = table.candidates(value)
        used = int(table.rows(np.array([value], table.schema.key_type.dtype), np.array([at]))[0])
    states = _states(table, numbers, at)
    if key is not None:
        states = [
            _WIDER if state == _HOLDS and number != used else state
            for number, state in zip(numbers.tolist(), states, strict=True)
        ]
    columns = {name: _shown(table.column(name, numbers)) for name in table.schema.columns}
    rows = [RowLook(state, {name: columns[name][n] for name in columns}) for n, state in enumerate(states)]
    return TableLook(table.name, format_timestamp(at), used != NONE, rows)


def _key(table: LookupTable, text: str) -> object:
    """A key as it is stored."""
    kind = table.schema.key_type
    if not text:
        raise ConfigError("KEY is empty")
    try:
        return cell_value(text, kind, table.schema.key, Place("KEY"))
    except ConfigError:
        raise ConfigError(f"KEY is not {kind}") from None


def _states(table: LookupTable, numbers: Numbers, at: int) -> list[str]:
    """What the rows' own times say of them."""
    states = np.full(len(numbers), _HOLDS, np.object_)
    if not table.schema.timed:
        return states.tolist()
    for name, state in ((VALID_FROM, _LATER), (EXPIRES, _EXPIRED)):
        if name in table.schema.columns:
            column = table.column(name, numbers)
            passed = column.values <= at
            states[both(column.valid, passed if name == EXPIRES else ~passed)] = state
    return states.tolist()


def _shown(column: Column) -> list[object]:
    """Values as people write them: decimals with all their digits, times in RFC 3339."""
    kind, values = column.type, column.values.tolist()
    if kind.kind is Kind.DECIMAL:
        values = [Decimal(value).scaleb(-kind.scale) for value in values]
    elif kind.kind is Kind.TIMESTAMP:
        values = [format_timestamp(value) for value in values]
    valid = np.ones(len(values), np.bool_) if column.valid is None else column.valid
    return [value if there else None for value, there in zip(values, valid.tolist(), strict=True)]
