"""Functions that Flink's users know by other names or another syntax; whole units between two times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.support import ours, refusal, theirs, write

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
# What Flink's documentation and its tests say (docs/data/sql_functions.yml; ScalarFunctionsTest, TemporalTypesTest,
# CastFunctionITCase, RegExpReplace of the streaming harness tests).
FLINK = {
    "CONCAT_WS('~', 'AA', NULL, 'BB', '', 'CC')": "AA~BB~~CC",
    "CONCAT_WS('~~~~', 'AA')": "AA",
    "CONCAT_WS('~~~~', 'Flink', CAST(NULL AS STRING), 'xx', NULL, NULL)": "Flink~~~~xx",
    "CONCAT_WS(CAST(NULL AS STRING), 'AA')": None,
    "REGEXP_REPLACE('foobar', 'oo|ar', '')": "fb",
    "REGEXP_REPLACE('foobar', 'oo|ar', 'abc')": "fabcbabc",
    "REGEXP_REPLACE('foofar', '^f', '')": "oofar",
    "REGEXP_REPLACE('foobar', '^f*.*r$', '')": "",
    r"REGEXP_REPLACE('foobar', '\d', '')": "foobar",
    r"REGEXP_REPLACE('foobar', '\w', '')": "",
    "REGEXP_REPLACE('fooobar', 'oo', '$')": "f$obar",
    r"REGEXP_REPLACE('foobar', 'oo', '\')": r"f\bar",
    "REGEXP_REPLACE(CAST(NULL AS STRING), 'oo|ar', '')": None,
    r"REGEXP_REPLACE('100-200', '(\d+)', 'num')": "num-num",
    "REGEXP_REPLACE('2014-03-13', '', 's')": "2014-03-13",
    "REGEXP_REPLACE('2014-03-13', '-', '')": "20140313",
    "DATE_FORMAT(TIMESTAMP '2018-03-14 01:02:03', 'yyyy/MM/dd HH:mm:ss')": "2018/03/14 01:02:03",
    "DATE_FORMAT(TIMESTAMP '2017-09-15 23:00:00', 'yyMMdd')": "170915",
    "DATE_FORMAT(CAST(NULL AS TIMESTAMP), 'yyyy/MM/dd HH:mm:ss')": None,
    "CAST(CAST(9.87 AS DECIMAL(4, 3)) AS BIGINT)": 9,
    "CAST(CAST(-9.87 AS DECIMAL(4, 3)) AS INT)": -9,
    "CAST(3276913443134.87 AS BIGINT)": 3276913443134,
    "CAST(CAST(123.456789 AS DOUBLE) AS BIGINT)": 123,
    "CAST(CAST(-123.456789 AS DOUBLE) AS BIGINT)": -123,
    "CAST(CAST(-9.87 AS DOUBLE) AS BIGINT)": -9,
    "CAST(CAST(9234567891.12345 AS DOUBLE) AS BIGINT)": 9234567891,
}
# Java's DateTimeFormatter (its documentation's letters), by hand.
JAVA = {
    "yyyy-MM-dd''HH": "2026-05-03'09",
    "d.M.yy H:m:s": "3.5.26 9:5:7",
    "EEE, d MMM yyyy": "Sun, 3 May 2026",
    "EEEE d MMMM uuuu": "Sunday 3 May 2026",
    "hh:mm a": "09:05 AM",
    "SSS SS SSSSS": "089 08 08900",
    "'day 'd' of 'MMM, ''yy": "day 3 of May, '26",
}


@pytest.mark.parametrize(("call", "value"), SAID.items(), ids=SAID)
def test_a_function_says(call: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    assert ours(f"SELECT {call} AS x FROM t", {"t": path}) == [{"x": value}]


@pytest.mark.parametrize(("call", "value"), FLINK.items(), ids=FLINK)
def test_a_function_says_what_flinks_does(call: str, value: object, tmp_path: Path) -> None:
    """Of a literal, and of a column."""
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n2\n")
    assert ours(f"SELECT {call} AS x FROM t", {"t": path}) == [{"x": value}] * 2
    literal, _, rest = call.partition("(")[2].partition(",")
    if literal.startswith("'") and not call.startswith("CONCAT"):
        path.write_text(f"a\n{literal[1:-1]}\n{literal[1:-1]}\n")
        table = "CREATE TABLE t (a STRING);"
        found = ours(f"{table} SELECT {call.partition('(')[0]}(a,{rest} AS x FROM t", {"t": path})
        assert found == [{"x": value}] * 2


@pytest.mark.parametrize(("pattern", "text"), JAVA.items(), ids=JAVA)
def test_times_are_written_by_javas_patterns(pattern: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("event_time\n2026-05-03T09:05:07.089Z\n")
    quoted = pattern.replace("'", "''")
    assert ours(f"SELECT DATE_FORMAT(event_time, '{quoted}') AS x FROM t", {"t": path}) == [{"x": text}]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("DATE_FORMAT(event_time, 'yyyy-mm-DD')", "a pattern has no DD: it has yyyy, uuuu, MMMM, dd, EEEE, HH, hh, mm"),
        ("DATE_FORMAT(event_time, 'yyyyy')", "a pattern has no yyyyy"),
        ("DATE_FORMAT(event_time, 'HH ''o')", "a pattern has no '"),
        ("DATE_FORMAT(event_time, s)", "the pattern must be a text literal of at most 500 characters"),
        ("REGEXP_REPLACE(s, '(a', 'b')", "the pattern is not a regular expression of RE2"),
        ("REGEXP_REPLACE(s, '(?=a)', 'b')", "the pattern is not a regular expression of RE2"),
        ("REGEXP_REPLACE(s, 'a', s)", "the replacement must be a text literal of at most 500 characters"),
        ("CONCAT_WS('-')", "concat_ws(separator, s, ...)"),
    ],
)
def test_wrong_patterns_are_refused(call: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("event_time,s\n2026-05-03T09:05:07.089Z,x\n")
    assert said in refusal(f"SELECT {call} AS x FROM t", {"t": path})


def test_what_replaces_does_not_grow_without_bound(tmp_path: Path) -> None:
    """65,536 characters are the most; a pattern that would backtrack takes linear time."""
    files = {"t": write(tmp_path, "t", [{"s": "a" * 60_000}])}
    sql = "SELECT CHAR_LENGTH(REGEXP_REPLACE(s, '{}', '{}')) AS n FROM t"
    assert ours(sql.format("(a*)*b", "x"), files) == [{"n": 60_000}]
    assert ours(sql.format("a{10}", "b" * 10), files) == [{"n": 60_000}]
    assert "a number is too large" in refusal(sql.format("a", "bb"), files)
    assert "a number is too large" in refusal("SELECT CHAR_LENGTH(CONCAT_WS('-', s, s)) AS n FROM t", files)
