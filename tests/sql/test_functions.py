"""Functions that Flink's users know by other names or another syntax; whole units between two times."""

from __future__ import annotations

import re
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
    "TRIM('  a ')": "a",
    "TRIM(FROM '  a ')": "a",
    "TRIM(BOTH 'ab' FROM 'baXab')": "X",
    "TRIM('ab' FROM 'baXab')": "X",
    "TRIM(LEADING 'ab' FROM 'baXab')": "Xab",
    "TRIM(TRAILING 'ab' FROM 'baXab')": "baX",
    "TRIM(LEADING FROM '  a ')": "a ",
    "CEIL(TIMESTAMP '2026-05-01 10:59:59' TO HOUR)": "2026-05-01T11:00:00.000Z",
    "CEILING(TIMESTAMP '2026-05-01 10:00:00' TO HOUR)": "2026-05-01T10:00:00.000Z",
    "CEIL(TIMESTAMP '2026-12-02 00:00:00' TO MONTH)": "2027-01-01T00:00:00.000Z",
    "TIMESTAMPADD(MONTH, 1, TIMESTAMP '2026-01-31 10:00:00')": "2026-02-28T10:00:00.000Z",
    "TIMESTAMPADD(YEAR, -2, TIMESTAMP '2026-02-28 10:00:00')": "2024-02-28T10:00:00.000Z",
    "5 BETWEEN SYMMETRIC 9 AND 1": True,
    "5 BETWEEN SYMMETRIC NULL AND 1": None,
    "SHA2('abc', 224)": "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
    "SHA512('')": "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
    "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    # SIMILAR TO as SQL has it: the whole text, % and _ as in LIKE, the rest as in regular expressions
    "'abc' SIMILAR TO 'a%'": True,
    "'abc' SIMILAR TO 'a'": False,
    "'abc' SIMILAR TO 'a_(b|c)'": True,
    "'abc' SIMILAR TO '(b|c)%'": False,
    "'a.c' SIMILAR TO 'a.c'": True,
    "'abc' SIMILAR TO 'a.c'": False,
    "'ab' NOT SIMILAR TO '[a-c]{2}'": False,
    "'a7' SIMILAR TO '[[:ALPHA:]][[:DIGIT:]]'": True,
    "'a%' SIMILAR TO 'a!%' ESCAPE '!'": True,
    "'ab' SIMILAR TO 'a!%' ESCAPE '!'": False,
    "'^x' SIMILAR TO '^[^a]'": True,
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
    "LPAD('hi', 4, '??')": "??hi",
    "LPAD('hi', 1, '??')": "h",
    "LPAD('hi', 0, '??')": "",
    "LPAD('hi', -1, '??')": None,
    "LPAD('hi', 4, '')": None,
    "RPAD('hi', 4, '??')": "hi??",
    "RPAD('hi', 1, '??')": "h",
    "OVERLAY('xxxxxtest' PLACING 'xxxx' FROM 6)": "xxxxxxxxx",
    "OVERLAY('xxxxxtest' PLACING 'xxxx' FROM 6 FOR 2)": "xxxxxxxxxst",
    "OVERLAY('test' PLACING 'xxxx' FROM 0)": "test",
    "OVERLAY('test' PLACING 'xxxx' FROM 9)": "test",
    "REPEAT('This is a test String.', 2)": "This is a test String.This is a test String.",
    "REPEAT('a', -1)": "",
    "INITCAP('hello world')": "Hello World",
    "INITCAP('hELLO-wORLD a1b')": "Hello-World A1b",
    "ASCII('abc')": 97,
    "ASCII(CAST(NULL AS VARCHAR))": None,
    "CHR(97)": "a",
    "CHR(353)": "a",
    "CHR(-1)": "",
    "LEFT('abc', -1)": "",
    "RIGHT('abcd', 2)": "cd",
    "RIGHT('abcd', -1)": "",
    "LOCATE('aa', 'aaads')": 1,
    "LOCATE('aa', 'aaads', 2)": 2,
    "LOCATE('aa', 'aaads', 3)": 0,
    "SPLIT_INDEX('a,b,c', ',', 2)": "c",
    "SPLIT_INDEX('a,b,c', ',', 3)": None,
    "SPLIT_INDEX('a,,c', ',', 1)": "",
    "SPLIT_INDEX('a,b', ',', -1)": None,
    "SPLIT_INDEX('', ',', 0)": None,
    "REVERSE('abc')": "cba",
    "REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 2)": "bar",
    "REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 0)": "foothebar",
    "REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)')": "foothebar",
    "REGEXP_EXTRACT('foothebar', 'fox')": None,
    r"REGEXP_EXTRACT('a(b)', '[(](?:x)?(\w)\)', 1)": "b",
    "TRUNCATE(42.324, 2)": 42.32,
    "TRUNCATE(-42.324, -1)": -40,
    "LOG(2, 8)": 3.0,
    "WEEK(DATE '1994-09-27')": 39,
    "EXTRACT(DOW FROM DATE '1994-09-27')": 3,
    "EXTRACT(QUARTER FROM DATE '1994-09-27')": 3,
    "FROM_UNIXTIME(44)": "1970-01-01 00:00:44",
    "UNIX_TIMESTAMP('1970-01-01 08:00:01.001', 'yyyy-MM-dd HH:mm:ss.SSS')": 28801,
    "TO_TIMESTAMP_LTZ(86400000)": "1970-01-02T00:00:00.000Z",
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
    of_text = re.fullmatch(r"(\w+)\(('[^']*')([,)].*)", call)
    if of_text is not None and not call.startswith(("CONCAT", "LOCATE")):
        write(tmp_path, "t", [{"a": of_text[2][1:-1]}] * 2)
        sql = f"CREATE TABLE t (a STRING); SELECT {of_text[1]}(a{of_text[3]} AS x FROM t"
        assert ours(sql, {"t": tmp_path / "t.ndjson"}) == [{"x": value}] * 2


@pytest.mark.parametrize(("pattern", "text"), JAVA.items(), ids=JAVA)
def test_times_are_written_by_javas_patterns(pattern: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("event_time\n2026-05-03T09:05:07.089Z\n")
    quoted = pattern.replace("'", "''")
    assert ours(f"SELECT DATE_FORMAT(event_time, '{quoted}') AS x FROM t", {"t": path}) == [{"x": text}]


READ = {
    "2026-05-03 09:05:07.089|yyyy-MM-dd HH:mm:ss.SSS": "2026-05-03T09:05:07.089Z",
    "3.5.26 9|d.M.yy H": "2026-05-03T09:00:00.000Z",
    "Sun, 3 May 2026|EEE, d MMM yyyy": "2026-05-03T00:00:00.000Z",
    "Mon, 3 May 2026|EEE, d MMM yyyy": None,
    "12:30 AM|hh:mm a": "1970-01-01T00:30:00.000Z",
    "12:30 PM|hh:mm a": "1970-01-01T12:30:00.000Z",
    "13:30 PM|hh:mm a": None,
    "30.02.2026|dd.MM.yyyy": None,
    "3.02.2026|dd.MM.yyyy": None,
    "03.02.2026 |dd.MM.yyyy": None,
    "day 03|'day 'dd": "1970-01-03T00:00:00.000Z",
    "2026-1-1|uuuu-M-d": "2026-01-01T00:00:00.000Z",
    "0000|yyyy": None,
}


@pytest.mark.parametrize(("given", "moment"), READ.items(), ids=READ)
def test_times_are_read_by_javas_patterns(given: str, moment: str | None, tmp_path: Path) -> None:
    text, pattern = given.split("|")
    files = {"t": write(tmp_path, "t", [{"s": text}])}
    quoted = pattern.replace("'", "''")
    assert ours(f"CREATE TABLE t (s STRING); SELECT TO_TIMESTAMP(s, '{quoted}') AS x FROM t", files) == [{"x": moment}]


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
        ("REGEXP_EXTRACT(s, 'a(b)', 2)", "the group is a whole literal from 0 (all of the match) to 1"),
        ("REGEXP_EXTRACT(s, '(a')", "the pattern is not a regular expression of RE2"),
        ("s SIMILAR TO '[a'", "the text is no pattern of SIMILAR TO"),
        ("s SIMILAR TO 'a!' ESCAPE '!'", "the text is no pattern of SIMILAR TO"),
        ("s SIMILAR TO '(a'", "the text is no pattern of SIMILAR TO"),
        ("SHA2(s, 1)", "the bits are one of 224, 256, 384, 512"),
        ("TO_TIMESTAMP(s, 'hh')", "a pattern has no h without a"),
        ("TO_TIMESTAMP(s, 'dd d')", "a pattern has no d"),
        ("TRIM(LEADING 'a')", "write TRIM(LEADING letters FROM text)"),
        ("RAND()", "there is no function rand (it would not give the same twice)"),
        ("JSON_VALUE(s, '$.a')", "there is no function json_value (name the fields of the input's records instead)"),
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
    assert "a number is too large" in refusal("SELECT CHAR_LENGTH(LPAD(s, 999999999999, 'a')) AS n FROM t", files)
    assert "a number is too large" in refusal("SELECT CHAR_LENGTH(REPEAT(s, 2)) AS n FROM t", files)
    assert ours("SELECT REPEAT('', 999999999999) AS n FROM t", files) == [{"n": ""}]
    assert "a number is too large" in refusal("SELECT CHAR_LENGTH(CONCAT_WS('-', s, s)) AS n FROM t", files)
