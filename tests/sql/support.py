"""Runs a statement here and in DuckDB over the same files; rows of payments, logins and account changes."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from state.errors import ConfigError
from streamproc.cli.sql_tables import load_tables
from streamproc.sql import CreateTable, compile_file, parse_file
from tests.cli.conftest import START

Row = dict[str, Any]


def stamp(ms: int) -> str:
    """A time as files have it."""
    return (START + dt.timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def payments(rows: int = 200, seed: int = 1, *, ties: bool = False) -> list[Row]:
    """Payments of five cards within two hours, out of order by up to a minute; NULLs here and there.

    Without `ties` no two have the same time.
    """
    pick = random.Random(seed)
    made = []
    for n in range(rows):
        ms = pick.randrange(120) * 60_000 if ties else n * 36_000 + pick.randrange(60_000) // 7 * 7
        made.append(
            {
                "payment_id": f"p{n:04}",
                "card_id": pick.choice([None, "c1", "c2", "c3", "c4"]),
                "amount": None if n < 3 or pick.random() < 0.1 else pick.randrange(1, 2_000_000) / 64,
                "merchant_country": pick.choice(["DE", "FR", "US"]),
                "cardholder_country": pick.choice(["DE", "FR", None]),
                "items": pick.randrange(50),
                "online": pick.choice([True, False, None]),
                "event_time": stamp(ms),
            }
        )
    return made


def changes(rows: int = 30, seed: int = 2) -> list[Row]:
    """Account changes of the same cards."""
    pick = random.Random(seed)
    made = [
        {
            "card_id": pick.choice(["c1", "c2", "c3", "c5", None]),
            "kind": pick.choice(["address", "email", "phone"]),
            "level": pick.randrange(5),
            "change_time": stamp(n * 240_000 + pick.randrange(100_000) // 11 * 11 + 1),
        }
        for n in range(rows)
    ]
    pick.shuffle(made)
    return made


def write(folder: Path, name: str, rows: Sequence[Row], suffix: str = "ndjson") -> Path:
    """A file of the rows."""
    path = folder / f"{name}.{suffix}"
    if suffix == "ndjson":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        source = write(folder, f"{name}-source", rows)
        options = "(HEADER)" if suffix == "csv" else "(FORMAT parquet)"
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"COPY (FROM {reader(source)}) TO '{path}' {options}")
    return path


def reader(path: Path) -> str:
    """The file as DuckDB reads it."""
    if path.suffix == ".parquet":
        return f"read_parquet('{path}')"
    if path.suffix == ".csv":
        return f"read_csv('{path}', header = true)"
    return f"read_json('{path}', format = 'newline_delimited', sample_size = -1)"


def ours(sql: str, files: Mapping[str, Path | Sequence[Path]]) -> list[Row]:
    """The rows of all queries of a file, as their JSON says."""
    statements = parse_file(sql, "q.sql")
    declared = {one.name: one for one in statements if isinstance(one, CreateTable)}
    paths = {name: [path] if isinstance(path, Path) else path for name, path in files.items()}
    tables = load_tables(paths, declared)
    pieces = [piece for query in compile_file(statements, tables) for piece in query.lines(tables)]
    return [json.loads(line) for line in b"".join(pieces).splitlines()]


def theirs(sql: str, files: Mapping[str, Path], *settings: str) -> list[Row]:
    """DuckDB's rows of one query, in our JSON's values."""
    with duckdb.connect() as connection:
        for setting in ("SET TimeZone = 'UTC'", *settings):
            connection.execute(setting)
        for name, path in files.items():
            connection.execute(f"CREATE TABLE {name} AS FROM {reader(path)}")
            for column, kind, *_ in connection.execute(f"DESCRIBE {name}").fetchall():
                if kind == "TIMESTAMP WITH TIME ZONE":
                    connection.execute(f"ALTER TABLE {name} ALTER {column} TYPE TIMESTAMP")
        result = connection.execute(sql.strip().removesuffix(";"))
        names = [one[0] for one in result.description]
        return [dict(zip(names, map(_json, row), strict=True)) for row in result.fetchall()]


def _json(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    if isinstance(value, dt.date):
        return f"{value}T00:00:00.000Z"
    return float(value) if isinstance(value, Decimal) else value


def agree(mine: Sequence[Row], other: Sequence[Row]) -> None:
    """The same rows, in any order; floats to twelve digits."""
    assert [list(row) for row in mine[:1]] == [list(row) for row in other[:1]]
    assert sorted(map(_comparable, mine)) == sorted(map(_comparable, other))


def _comparable(row: Row) -> str:
    return json.dumps([_rounded(value) for value in row.values()])


def _rounded(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    assert math.isfinite(value)
    return float(f"{value:.11e}")


def refusal(sql: str, files: Mapping[str, Path | Sequence[Path]]) -> str:
    """What is said of a wrong file."""
    try:
        ours(sql, files)
    except ConfigError as error:
        return str(error)
    raise AssertionError("it was taken")
