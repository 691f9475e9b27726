"""Functions that Flink's users know by other names or another syntax; whole units between two times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.support import ours, theirs, write

# Ends of months, leap days, and times of a day that are just not there yet.
TIMES = [
    "2024-01-31T10:00:00Z",
    "2024-02-29T09:59:59Z",
    "2024-02-29T10:00:00Z",
    "2024-03-30T00:00:00Z",
    "2024-03-31T10:00:00Z",
    "2025-02-28T10:00:00Z",
    "2023-12-31T23:59:59.999Z",
    "1969-07-20T20:17:40Z",
    "2024-02-28T10:00:00Z",
]


@pytest.mark.parametrize("unit", ["SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"])
def test_timestampdiff_counts_whole_elapsed_units(unit: str, tmp_path: Path) -> None:
    rows = [{"event_time": one, "b": other} for one in TIMES for other in TIMES]
    files = {"t": write(tmp_path, "t", rows)}
    mine = ours(f"SELECT TIMESTAMPDIFF({unit}, event_time, b) AS n FROM t", files)
    assert mine == theirs(f"SELECT date_sub('{unit.lower()}', event_time, b) AS n FROM t", files)


def test_a_month_ends_on_the_last_day_of_a_short_one(tmp_path: Path) -> None:
    """As in Flink: TIMESTAMPADD(MONTH, 1, 31 January) is the last of February."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n2024-01-31T10:00:00Z,2024-02-29T10:00:00Z\n2024-01-31T10:00:00Z,2024-02-29T09:59:59Z\n")
    assert [row["n"] for row in ours("SELECT TIMESTAMPDIFF(MONTH, a, b) AS n FROM t", {"t": path})] == [1, 0]


SAID = {
    "CHAR_LENGTH('abc')": 3,
    "IFNULL(NULL, 'x')": "x",
    "LEFT('abcdef', 2)": "ab",
    "POSITION('c' IN 'abc')": 3,
    "SUBSTRING('abcdef' FROM 2 FOR 3)": "bcd",
    "SUBSTRING('abcdef' FROM 4)": "def",
    "TIMESTAMPADD(MINUTE, 5, TIMESTAMP '2026-05-01 00:00:00')": "2026-05-01T00:05:00.000Z",
    "TO_TIMESTAMP('2026-05-01 10:00:00')": "2026-05-01T10:00:00.000Z",
    "TO_TIMESTAMP('no time')": None,
    "TO_TIMESTAMP_LTZ(86400, 0)": "1970-01-02T00:00:00.000Z",
    "TO_TIMESTAMP_LTZ(86400000, 3)": "1970-01-02T00:00:00.000Z",
    "FLOOR(TIMESTAMP '2026-05-01 10:59:59' TO HOUR)": "2026-05-01T10:00:00.000Z",
    "FLOOR(2.7)": 2,
    "EXTRACT(DOY FROM DATE '2026-02-01')": 32,
    "DAYOFMONTH(DATE '2026-02-03')": 3,
}


@pytest.mark.parametrize(("call", "value"), SAID.items(), ids=SAID)
def test_a_function_says(call: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    assert ours(f"SELECT {call} AS x FROM t", {"t": path}) == [{"x": value}]
