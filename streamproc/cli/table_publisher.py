"""What `publish-table` does: a file's rows against those of the topic -> records for what differs."""

from __future__ import annotations

__all__ = ["Given", "Published", "Who", "changes", "publish", "read"]

import getpass
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from operators.expressions.clock import format_timestamp
from operators.live_tables import Row, TableRows, TopicTable, key_text, parse_cell, row_json
from operators.periods import VALID_FROM
from operators.tables import TableSchema
from state.errors import ConfigError, Place
from streamproc.cli.compose import open_log
from streamproc.eventlog.contract import EventLog, Headers, OutputRecords
from streamproc.language import load_pipeline
from streamproc.language.csv_table import TableFile, read_file
from streamproc.language.problems import nearest
from streamproc.runtime.topic_tables import prepare_table_topic, read_table_topic

_AT_ONCE = 20_000
"""Records of a transaction: workers see them together."""
_LONG_AGO = -(2**63)


class Given(NamedTuple):
    """A table, and the rows that it is to have."""

    table: TopicTable
    file: TableFile


class Who(NamedTuple):
    """Who changes a table, when (RFC 3339) and why."""

    name: str
    at: str
    why: str | None

    @staticmethod
    def now(name: str | None, why: str | None) -> Who:
        """At this moment; the user of this process, if nobody is named."""
        return Who(name or _user(), format_timestamp(time.time_ns() // 1_000_000), why)

    @property
    def headers(self) -> Headers:
        """Of each record, of removed rows too."""
        told = {"by": self.name, "at": self.at, **({"why": self.why} if self.why else {})}
        return [(name, text.encode("utf-8", "surrogatepass")) for name, text in told.items()]


class Published(msgspec.Struct, frozen=True):
    """Keys whose rows were added, changed, removed, and left as they were; `published` is false of a dry run."""

    table: str
    topic: str
    added: int
    changed: int
    removed: int
    equal: int
    published: bool

    def text(self) -> str:
        """One line."""
        what = f"{self.added:,} added, {self.changed:,} changed, {self.removed:,} removed, {self.equal:,} as they were"
        return f"{self.table}: {what}" + ("" if self.published else " (dry run: nothing was written)")


def read(pipeline: str, name: str, file: str | None) -> Given:
    """The table `name` of a pipeline and its file, or another one.

    Raises:
        ConfigError: there is no such table, it has no topic, or the file is wrong.
    """
    loaded = load_pipeline(pipeline)
    table = loaded.tables.get(name)
    if table is None:
        raise ConfigError(f"{pipeline} has no table {name!r}", hint=nearest(name, loaded.tables))
    if not table.topic:
        raise ConfigError(f"table {name} has no topic", table.place, f"topic: {loaded.pipeline}.{name}")
    folder = Path(loaded.folder)
    if file is not None:
        table, folder = msgspec.structs.replace(table, file=file, place=Place(file)), Path()
    found = read_file(name, table, folder)
    return Given(TopicTable(table.topic, TableSchema(name, table.key, found.types, table.match)), found)


async def publish(
    given: Given, log_url: str | None, who: Who, *, dry_run: bool = False, allow_empty: bool = False
) -> Published:
    """Bring the topic to what is given; `log_url` is None for a dry run without a log: opening one makes it.

    Raises:
        ConfigError: the topic cannot be one of a table; or nothing is given, which would remove all of its rows.
        EventLogError: the log failed; what was committed before stays, and the next try does the rest.
    """
    (table, file), old = given, TableRows(given.table.schema)
    if log_url is None:
        added = len({key_text(table.schema, row[table.schema.key]) for row in file.rows})
        return Published(table.schema.name, table.topic, added, changed=0, removed=0, equal=0, published=False)
    log = open_log(log_url)
    try:
        await read_table_topic(log, table.topic, old)
        if not (file.rows or allow_empty):
            _refuse_to_empty(table, old)
        counts = dict.fromkeys(("added", "changed", "removed"), 0)
        records: list[tuple[bytes, bytes | None]] = []
        for what, key, rows in changes(table.schema, file, old.of, who):
            counts[what] += 1
            value = row_json(table.schema, rows) if rows else None
            records.append((key.encode("utf-8", "surrogatepass"), value))
        if not dry_run:
            await _write(log, table.topic, records, who)
        equal = len(old.of) - counts["changed"] - counts["removed"]
        return Published(table.schema.name, table.topic, **counts, equal=equal, published=not dry_run)
    finally:
        await log.close()


def _refuse_to_empty(table: TopicTable, old: TableRows) -> None:
    """An export that failed has a header and no rows: it must not open a block list."""
    if old.of:
        raise ConfigError(
            f"table {table.schema.name}: the file has no rows, and would remove all {len(old.of):,} keys",
            hint="look at what made the file; if the table is to be empty: --allow-empty",
        )


def changes(
    schema: TableSchema, file: TableFile, old: Mapping[str, list[Row]], who: Who
) -> Iterator[tuple[str, str, list[Row]]]:
    """(what, key, rows) of each key whose rows are to be others: `added`, `changed` or `removed`.

    Rows are others if a column that the file has differs. Those that do not say who added them, when and why are given
    it from `who`.
    """
    new: dict[str, list[Row]] = {}
    for row in file.rows:
        new.setdefault(key_text(schema, row[schema.key]), []).append(row)
    for key, rows in new.items():
        rows.sort(key=_start)
        had = sorted(old.get(key, []), key=_start)
        if len(had) != len(rows) or any(_differ(schema, file.given, *pair) for pair in zip(had, rows, strict=True)):
            yield "changed" if had else "added", key, [_signed(schema, row, who) for row in rows]
    for key in old:
        if key not in new:
            yield "removed", key, []


def _start(row: Row) -> int:
    start = row.get(VALID_FROM)
    return _LONG_AGO if start is None else int(start)


def _differ(schema: TableSchema, given: list[str], old: Row, new: Row) -> bool:
    """An empty cell of who, when and why was filled in as the row went in: it stays."""
    signed = _signatures(None)
    return any(
        old.get(name) != new.get(name) and not (name in signed and new.get(name) is None)
        for name in given
        if name != schema.key
    )


def _signatures(who: Who | None) -> dict[str, str | None]:
    return {"added_by": who and who.name, "added_at": who and who.at, "reason": who and who.why}


def _signed(schema: TableSchema, row: Row, who: Who) -> Row:
    signed = dict(row)
    for name, text in _signatures(who).items():
        if text and name in schema.columns and signed.get(name) is None:
            signed[name] = parse_cell(text, schema.columns[name])
    return signed


async def _write(log: EventLog, topic: str, records: list[tuple[bytes, bytes | None]], who: Who) -> None:
    tp = await prepare_table_topic(log.admin(), topic)
    if not records:
        return
    writer = log.writer(f"publish-table-{topic}")
    await writer.open()
    try:
        for at in range(0, len(records), _AT_ONCE):
            part = records[at : at + _AT_ONCE]
            keys, values = [key for key, _ in part], [value for _, value in part]
            await writer.begin()
            headers = [who.headers] * len(part)
            await writer.append([OutputRecords(tp, keys, values, time.time_ns() // 1_000_000, headers)])
            await writer.delivered()
            await writer.commit()
    finally:
        await writer.abandon()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
