"""Tables that change while a pipeline runs: rows from the records of a compacted topic, one record a key.

    key      the row's key as text, in its one spelling (`key_text`)
    value    a JSON object of the other columns; an array of them where rows of one key hold at different times;
             none: the key has no rows any more

A record that is not so changes nothing: the rows that its key had stay.
"""

from __future__ import annotations

__all__ = [
    "IMPLIED",
    "Follower",
    "LiveTables",
    "Row",
    "TableRows",
    "TopicTable",
    "cell_text",
    "key_text",
    "parse_cell",
    "row_json",
]

import ipaddress
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from operators.expressions.clock import format_timestamp
from operators.periods import EXPIRES, VALID_FROM, bounds, overlap
from operators.prefixes import parse_network
from operators.schema import MINOR_LIMIT, DataType, Kind
from operators.tables import LookupTable, Match, TableSchema, normal_key
from operators.values import parse_decimal, parse_timestamp

Row = dict[str, Any]
"""Physical values by column; absent is NULL."""
IMPLIED: Final[Mapping[str, DataType]] = {
    VALID_FROM: DataType(Kind.TIMESTAMP),
    EXPIRES: DataType(Kind.TIMESTAMP),
    "added_by": DataType(Kind.STRING),
    "added_at": DataType(Kind.STRING),
    "reason": DataType(Kind.STRING),
}
"""Columns that need no declaration: when a row holds; who made it, when and why."""
_INTEGER = re.compile(r"-?\d{1,18}")
_FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_V4 = 4


class TopicTable(msgspec.Struct, frozen=True):
    """A table of `schema` whose rows stand in `topic`; `may_be_empty`: no rows are nothing to warn of."""

    topic: str
    schema: TableSchema
    may_be_empty: bool = False


class Follower(Protocol):
    """What follows a table's rows in its own way (serving.ServedModel)."""

    def prepare(self, rows: Mapping[str, Sequence[Row]]) -> str | None:
        """Get ready for the rows, by the text of their keys; it may block. Why it stays as it is, or None."""
        ...

    def apply(self) -> None:
        """Go by what was prepared."""
        ...


def parse_cell(cell: str, kind: DataType) -> int | float | str | bool | None:
    """The physical value of a text that is not empty; None: it is not of that type."""
    match kind.kind:
        case Kind.STRING:
            return cell
        case Kind.DECIMAL:
            value = parse_decimal(cell, kind.scale)
            return value if value is None or abs(value) < MINOR_LIMIT else None
        case Kind.INT64:
            return int(cell) if _INTEGER.fullmatch(cell) else None
        case Kind.FLOAT64:
            number = float(cell) if _FLOAT.fullmatch(cell) else math.inf
            return number if math.isfinite(number) else None
        case Kind.TIMESTAMP:
            return int(cell) if _INTEGER.fullmatch(cell) else parse_timestamp(cell)
        case Kind.BOOL:
            return {"true": True, "false": False}.get(cell.lower())


def cell_text(value: Any, kind: DataType) -> str:
    """The text that `parse_cell` reads `value` from, the same for equal ones."""
    if kind.kind is Kind.DECIMAL:
        return str(Decimal(value).scaleb(-kind.scale))
    if kind.kind is Kind.TIMESTAMP:
        return format_timestamp(value)
    return str(value).lower() if kind.kind is Kind.BOOL else str(value)


def key_text(schema: TableSchema, value: Any) -> str:
    """The one spelling of a key: by it compaction knows that two records are of one key.

    >>> key_text(TableSchema("t", "k", {"k": DataType(Kind.STRING)}, Match.CIDR), "2001:DB8:0::/32")
    '2001:db8::/32'
    """
    if schema.match is not Match.CIDR:
        return cell_text(value, schema.key_type)
    network = parse_network(value)
    assert network is not None
    address = ipaddress.IPv4Address if network.size == _V4 else ipaddress.IPv6Address
    length = "" if network.bits == 8 * network.size else f"/{network.bits}"
    return f"{address(network.first)}{length}"


def row_json(schema: TableSchema, rows: Sequence[Row]) -> bytes:
    """The value of a record with the `rows` of one key."""
    found = [
        {
            name: cell_text(row[name], kind)
            for name, kind in schema.columns.items()
            if name != schema.key and row.get(name) is not None
        }
        for row in rows
    ]
    return json.dumps(found[0] if len(found) == 1 else found, ensure_ascii=False).encode("utf-8", "surrogatepass")


class TableRows:
    """The rows of a table by key, as its records bring them."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.of: dict[str, list[Row]] = {}

    def apply(self, key: bytes | None, value: bytes | None) -> str | None:
        """Take a record; why it was refused, without a word of what is in it, or None."""
        text = _text(key)
        found = None if text is None else parse_cell(text, self.schema.key_type) if text else None
        if found is None or normal_key(self.schema.match, found) is None or key_text(self.schema, found) != text:
            return "its key is none of the table's, or is spelled otherwise than publish-table would"
        assert text is not None
        if not value:
            self.of.pop(text, None)
            return None
        rows = self._rows(found, value)
        if isinstance(rows, str):
            return rows
        self.of[text] = rows
        return None

    def _rows(self, key: Any, value: bytes) -> list[Row] | str:
        try:
            told = json.loads(value, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError):
            return "its value is no JSON"
        objects = told if isinstance(told, list) else [told]
        if not objects or not all(isinstance(one, dict) for one in objects):
            return "its value is no JSON object, and no array of them"
        rows = [self._row(key, one) for one in objects]
        for row in rows:
            if isinstance(row, str):
                return row
        kept = [row for row in rows if not isinstance(row, str)]
        return kept if self._hold_apart(kept) else "rows of its key hold at the same time"

    def _row(self, key: Any, told: Mapping[str, Any]) -> Row | str:
        row: Row = {self.schema.key: key}
        for name, kind in self.schema.columns.items():
            cell = told.get(name)
            if cell is None or cell == "":
                continue
            text = str(cell).lower() if isinstance(cell, bool) else cell
            value = parse_cell(text, kind) if isinstance(text, str) else None
            if value is None or (isinstance(value, str) and not _writable(value)):
                return f"a value of {name} is not {kind}"
            if name == self.schema.key and normal_key(self.schema.match, value) != normal_key(self.schema.match, key):
                return f"its {name} is another one than its key"
            row[name] = value
        start, stop = row.get(VALID_FROM), row.get(EXPIRES)
        return row if start is None or stop is None or start < stop else f"{EXPIRES} is not later than {VALID_FROM}"

    def _hold_apart(self, rows: list[Row]) -> bool:
        if len(rows) == 1:
            return True
        return self.schema.timed and overlap(np.zeros(len(rows), np.intp), *bounds(rows)) is None

    def snapshot(self) -> LookupTable:
        """The table as it is now."""
        schema = self.schema
        rows = [row for mine in list(self.of.values()) for row in mine]
        return LookupTable(schema.name, schema.key, schema.columns, rows, schema.match)


class LiveTables:
    """The tables from topics that a plan's steps look up, in `lookups`, and how far in its topic each has come.

    A newer one waits until `apply`, which comes between two batches. `followers`: by table, what goes by it otherwise.
    """

    def __init__(
        self, tables: Sequence[TopicTable], lookups: dict[str, LookupTable],
        followers: Mapping[str, Sequence[Follower]] | None = None,
    ) -> None:  # fmt: skip
        self.tables = tuple(tables)
        self._followers = followers or {}
        self.versions: tuple[tuple[str, int], ...] = ()
        self._lookups = lookups
        self._waiting: dict[str, tuple[LookupTable, int]] = {}

    def prepare(self, rows: TableRows) -> list[str]:
        """Get what follows a table ready for its rows; it may block. Why some stay as they are."""
        found = [one.prepare(rows.of) for one in self._followers.get(rows.schema.name, ())]
        return [fault for fault in found if fault is not None]

    def put(self, topic: str, table: LookupTable, offset: int) -> None:
        """`table` is what the records before `offset` say."""
        self._waiting[topic] = table, offset

    def apply(self) -> None:
        """From now on the newest are looked up."""
        if not self._waiting:
            return
        known = dict(self.versions)
        for topic, (table, offset) in self._waiting.items():
            self._lookups[table.name], known[topic] = table, offset
            for follower in self._followers.get(table.name, ()):
                follower.apply()
        self._waiting = {}
        self.versions = tuple(sorted(known.items()))


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _writable(text: str) -> bool:
    """Whether UTF-8 has it: JSON may hold half a pair of surrogates, a decision cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
