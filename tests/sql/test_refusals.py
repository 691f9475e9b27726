"""What is wrong is said with its place and the nearest right name; nothing ends in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.support import changes, payments, refusal, write

G = "GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE)"
M = "SELECT * FROM payments MATCH_RECOGNIZE (\nPARTITION BY card_id ORDER BY event_time {})"
WRONG = {
    # statements
    "": "q.sql: the file has no statement (a statement is SELECT, WITH, CREATE TABLE, CREATE VIEW or INSERT INTO)",
    "-- nothing": "q.sql: the file has no statement",
    "INSERT INTO x VALUES (1)": "q.sql:1:15: a query is wanted here, not VALUES",
    "INSERT OVERWRITE x SELECT 1 FROM payments": "q.sql:1:8: INSERT OVERWRITE is not part of the subset",
    "CREATE TABLE s (a INT); INSERT INTO s SELECT card_id FROM payments": (
        "q.sql:1:37: a of s is int64, the query's card_id string (CAST(card_id AS ...))"
    ),
    "CREATE TABLE s (a INT); INSERT INTO s SELECT amount FROM payments": "a of s is int64, the query's amount float64",
    "CREATE TABLE s (abc INT); INSERT INTO s (abd) SELECT 1 FROM payments": (
        "q.sql:1:39: the table s has no column abd (did you mean abc?)"
    ),
    "CREATE TABLE s (a INT, b INT); INSERT INTO s SELECT 1 FROM payments": "s has 2 columns, the query 1 (a, b)",
    "CREATE VIEW v AS SELECT 1 FROM x": "q.sql:1:32: there is no table x",
    "CREATE VIEW payments AS SELECT 1 FROM payments": "q.sql:1:13: there is a table payments already",
    "CREATE VIEW v (a, a) AS SELECT 1 FROM payments": "two columns are called a",
    "CREATE VIEW v AS 5": "q.sql:1:18: a query is wanted here, not 5",
    "CREATE TABLE t (": "q.sql:1:16: a name is wanted here",
    "SHOW TABLES": "q.sql:1:1: SHOW is no statement of the subset",
    "SELECT 1 FROM payments;\nDROP TABLE x": "q.sql:2:1: DROP is no statement of the subset",
    "SELECT 'x FROM payments": "q.sql:1:8: a quote or a comment is not closed",
    "SELECT 1 /* x FROM payments": "q.sql:1:10: a quote or a comment is not closed",
    "SELECT FROM WHERE": "q.sql:1:",
    "SELECT (1 FROM payments": "q.sql:1:11: cannot parse the statement",
    # clauses
    "SELECT card_id FROM payments ORDER BY crd_id": "q.sql:1:39: there is no column crd_id (did you mean card_id?)",
    "SELECT card_id FROM payments ORDER BY 2": "q.sql:1:39: the query has 1 columns: ORDER BY 2 is none",
    "SELECT DISTINCT card_id FROM payments ORDER BY amount": "q.sql:1:48: ORDER BY names a column of the query here",
    "SELECT 1 FROM payments LIMIT amount": "q.sql:1:30: a whole number of rows is wanted here",
    "SELECT 1 FROM payments FETCH FIRST 5 ROWS WITH TIES": "FETCH FIRST n ROWS ONLY is wanted",
    "SELECT DISTINCT ON (card_id) card_id FROM payments": "DISTINCT ON is not part of the subset",
    "SELECT card_id, items FROM payments UNION ALL SELECT card_id FROM payments": (
        "the queries of UNION have 2 and 1 columns"
    ),
    "SELECT card_id FROM payments UNION SELECT items FROM payments": (
        "card_id is string in one query of UNION, int64 in another (CAST one of them)"
    ),
    "SELECT card_id AS c FROM payments UNION SELECT kind FROM changes ORDER BY kind": (
        "q.sql:1:75: ORDER BY names a column of the query here (there is only c)"
    ),
    "SELECT 1 FROM payments INTERSECT SELECT 2 FROM payments": "INTERSECT is not part of the subset",
    "SELECT 1 FROM payments EXCEPT SELECT 2 FROM payments": "EXCEPT is not part of the subset",
    "SELECT 1 FROM payments WHERE EXISTS (SELECT 1 FROM changes c WHERE c.level = items)": (
        "a query is not allowed in WHERE"
    ),
    "SELECT 1 FROM payments CROSS JOIN UNNEST(card_id) AS t (x)": "q.sql:1:42: UNNEST is not part of the subset",
    "SELECT 1 FROM db.payments": "q.sql:1:15: a database's name before a table's is not part of the subset",
    "SELECT CURRENT_TIMESTAMP FROM payments": "q.sql:1:8: CURRENT_TIMESTAMP is not part of the subset (a clock would",
    "SELECT COLLECT(card_id) FROM payments GROUP BY items": "q.sql:1:8: there is no function or aggregate collect",
    f"SELECT COUNT(*) AS cnt FROM payments {G} HAVING cnt > 1": "HAVING does not know cnt, a name of SELECT's list (w",
    "SELECT 1": "q.sql:1:1: FROM is missing",
    "SELECT 1 FROM payments WHERE amount > (SELECT 1 FROM payments)": "a query is not allowed in WHERE (queries may",
    "SELECT 1 FROM payments WHERE card_id IN (SELECT card_id FROM changes)": "a query is not allowed in WHERE",
    "WITH RECURSIVE a AS (SELECT 1 FROM payments) SELECT 1 FROM a": "WITH RECURSIVE is not part of the subset",
    "SELECT 1 FORM payments": "q.sql:1:10: FORM is no keyword (did you mean FROM?)",
    "SELECT 1 FROM payments WHER amount > 1": "q.sql:1:24: WHER is no keyword (did you mean WHERE?)",
    "SELECT 1 FROM payments p WHER amount > 1": "q.sql:1:26: WHER is no keyword (did you mean WHERE?)",
    "SELECT 1 FROM payments GRUOP BY items": "q.sql:1:24: GRUOP is no keyword (did you mean GROUP?)",
    "SET 'a' = 'b'": "q.sql:1:1: SET is no statement of the subset (a statement is SELECT, WITH, CREATE TABLE,",
    "EXECUTE x": "q.sql:1:1: EXECUTE is no statement of the subset (a statement is SELECT,",
    "SELCT 1 FROM payments": "q.sql:1:1: SELCT is no statement of the subset (did you mean SELECT?)",
    "SELECT items, FROM payments": "q.sql:1:13: nothing follows ,",
    "SELECT 1 FROM payments WHERE card_id IN ('a',)": "q.sql:1:45: nothing follows ,",
    "SELECT COUNT(*) FROM payments GROUP BY": "q.sql:1:31: nothing follows GROUP BY",
    "SELECT COUNT(*) FROM payments GROUP BY items,": "q.sql:1:45: nothing follows ,",
    "SELECT 1 FROM payments ORDER BY LIMIT 1": "q.sql:1:24: nothing follows ORDER BY",
    "SELECT CEIL(event_time TO LIGHTYEAR) FROM payments": "the unit must be one of second, minute, hour",
    "SELECT TRIM(LEADING 'a') FROM payments": "write TRIM(LEADING letters FROM text)",
    "SELECT 1 FROM payments WHERE card_id SIMILAR TO '[x'": "q.sql:1:30: the text is no pattern of SIMILAR TO",
    "SELECT 1 FROM payments WHERE card_id ILIKE 'x'": "q.sql:1:30: ILIKE is not part of the expression",
    "SELECT event_time AT TIME ZONE 'UTC' FROM payments": "q.sql:1:8: AT TIME ZONE is not part of the expression",
    "SELECT (1, 2) FROM payments": "a list in brackets is not part of the expression",
    "SELECT upper(DISTINCT card_id) FROM payments": "DISTINCT is not part of the expression",
    "SELECT COUNT(*) FROM payments GROUP BY GROUPING SETS ((card_id), ())": "GROUPING SETS is not part of the subset",
    "SELECT LISTAGG(card_id) WITHIN GROUP (ORDER BY items) FROM payments": (
        "q.sql:1:8: WITHIN GROUP is not part of the subset (aggregates take rows as they come"
    ),
    "SELECT COUNT(*) FILTER (WHERE online) OVER (ORDER BY event_time) FROM payments": (
        "q.sql:1:8: FILTER is not known OVER rows (SUM(CASE WHEN condition THEN x END) OVER (...))"
    ),
    "SELECT LISTAGG(items) FROM payments": "q.sql:1:8: LISTAGG wants a text, not int64 (CAST(... AS STRING))",
    "SELECT LISTAGG(card_id, card_id) FROM payments": "LISTAGG's separator is a text literal",
    "SELECT STDDEV_POP(card_id) FROM payments": "STDDEV_POP wants a number, not string",
    "SELECT STDDEV(items) OVER (ORDER BY event_time) FROM payments": "STDDEV is not known OVER rows",
    "SELECT SUM(DISTINCT items) OVER (ORDER BY event_time) FROM payments": (
        "q.sql:1:8: SUM(DISTINCT ...) is not part of the subset"
    ),
    "SELECT ROW_NUMBER() OVER (ORDER BY COUNT(*) DESC) FROM payments GROUP BY card_id": (
        "q.sql:1:8: a query with GROUP BY has no OVER (put it in FROM of another query"
    ),
    # names
    "SELECT amuont FROM payments": "q.sql:1:8: there is no column amuont (did you mean amount?)",
    "SELECT p.amount FROM payments": "q.sql:1:8: there is no table p in FROM (there is only payments)",
    "SELECT 1 FROM paymnets": "q.sql:1:15: there is no table paymnets (did you mean payments?)",
    "SELECT uper(card_id) FROM payments": "q.sql:1:8: there is no function uper (did you mean upper?)",
    "SELECT x.* FROM payments": "there is no table x in FROM",
    "CREATE TABLE t (a INT); SELECT a FROM t": "q.sql:1:39: the table t has no input (--input t=FILE)",
    # types
    "SELECT amount + card_id FROM payments": "q.sql:1:8: ",
    "SELECT 1 FROM payments WHERE amount": "q.sql:1:30: WHERE wants a condition, not float64",
    "SELECT amount > 'x' FROM payments": "float64 and string do not go together",
    "SELECT NULL FROM payments": "the type of NULL is not known here",
    f"SELECT SUM(card_id) FROM payments {G}": "q.sql:1:8: SUM wants a number, not string",
    # windows and aggregates
    "SELECT card_id, COUNT(*) FROM payments": "q.sql:1:8: card_id in SELECT must be in GROUP BY, or in an aggregate",
    "SELECT 1 FROM payments WHERE SUM(amount) > 1": "q.sql:1:30: the aggregate SUM is not allowed in WHERE (HAVING",
    f"SELECT amount FROM payments {G}": "q.sql:1:8: amount in SELECT must be in GROUP BY, or in an aggregate",
    f"SELECT SUM(MAX(amount)) FROM payments {G}": "the aggregate MAX is not allowed in the argument of SUM",
    f"SELECT HOP_START(event_time, INTERVAL '5' MINUTE) FROM payments {G}": "q.sql:1:8: HOP_START wants GROUP BY HOP(",
    f"SELECT TUMBLE_END(event_time, INTERVAL '6' MINUTE) FROM payments {G}": "TUMBLE_END must have the arguments of",
    "SELECT TUMBLE_END(event_time, INTERVAL '6' MINUTE) FROM payments": "TUMBLE_END wants GROUP BY TUMBLE(...)",
    "SELECT COUNT(*) FROM payments GROUP BY TUMBLE(amount, INTERVAL '5' MINUTE)": (
        "q.sql:1:47: a window wants a timestamp; amount is float64 (there is only event_time)"
    ),
    "SELECT COUNT(*) FROM payments GROUP BY TUMBLE(event_time, INTERVAL '1' MONTH)": "months and years differ",
    "SELECT COUNT(*) FROM payments GROUP BY TUMBLE(event_time, 5)": "a span of time is wanted: INTERVAL '5' MINUTE",
    "SELECT COUNT(*) FROM payments GROUP BY TUMBLE(event_time)": "q.sql:1:40: write TUMBLE(time, INTERVAL",
    "SELECT COUNT(*) FROM payments GROUP BY HOP(event_time, INTERVAL '1' MILLISECOND, INTERVAL '1' DAY)": (
        "a row would be in more than 10000 windows"
    ),
    "SELECT card_id FROM payments HAVING card_id = 'x'": "q.sql:1:30: HAVING wants GROUP BY",
    "SELECT 1 FROM TABLE(TUMBEL(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))": (
        "TABLE(...) wants one of TUMBLE, HOP, CUMULATE, SESSION (did you mean tumble?)"
    ),
    "SELECT 1 FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(evnt_time), INTERVAL '5' MINUTE))": (
        "q.sql:1:55: there is no column evnt_time (did you mean event_time?)"
    ),
    f"SELECT COUNT(*) FROM payments {G}, HOP(event_time, INTERVAL '5' MINUTE, INTERVAL '9' MINUTE)": "one window",
    "SELECT COUNT(*) FROM payments GROUP BY ROLLUP(card_id)": "ROLLUP is not part of the subset",
    # OVER
    "SELECT a, COUNT(*) OVER (ORDER BY a) AS n FROM untimed": "OVER wants rows that have an event time (CREATE TABLE",
    "SELECT hours_since(TIMESTAMP '2026-01-01') FROM untimed": "hours_since wants rows that have an event time",
    "SELECT SUM(amount) OVER (PARTITION BY card_id) FROM payments": "OVER wants ORDER BY the event time, ascending: ev",
    "SELECT SUM(amount) OVER (ORDER BY amount) FROM payments": "q.sql:1:35: OVER wants ORDER BY the event time",
    "SELECT SUM(amount) OVER (ORDER BY event_time DESC) FROM payments": "ORDER BY the event time, ascending",
    "SELECT LEAD(amount) OVER (ORDER BY event_time) FROM payments": "LEAD is not known OVER rows (it needs rows that",
    "SELECT SUMM(amount) OVER (ORDER BY event_time) FROM payments": "SUMM is not known OVER rows (did you mean sum?)",
    "SELECT SUM(amount) OVER v FROM payments WINDOW w AS (ORDER BY event_time)": "there is no window v (there is only",
    "SELECT SUM(amount) OVER (ORDER BY event_time ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM payments": (
        "a frame ends at CURRENT ROW"
    ),
    "SELECT 1 FROM payments WHERE SUM(amount) OVER (ORDER BY event_time) > 1": "OVER is not allowed in WHERE",
    # MATCH_RECOGNIZE
    "SELECT 1 FROM payments MATCH_RECOGNIZE (PATTERN (A) DEFINE A AS TRUE)": "q.sql:1:24: MATCH_RECOGNIZE wants ORDER",
    M.format("PATTERN (A B"): "q.sql:",
    M.format("PATTERN (A B) DEFINE A AS amuont > 1"): "q.sql:2:68: unknown column 'amuont' (did you mean amount?)",
    M.format("PATTERN (A B) DEFINE C AS amount > 1"): "q.sql:2:63: C is not in the pattern",
    M.format("PATTERN (A B) WITHIN 5 DEFINE A AS amount > 1"): "WITHIN wants an interval",
    M.format("PATTERN (A{900}) DEFINE A AS amount > 1"): "a quantifier counts to 500 at most",
    M.format("MEASURES A.amount PATTERN (A B) DEFINE A AS amount > 1"): "a measure needs a name",
    M.format("MEASURES A.amount AS card_id PATTERN (A B)"): "a measure is called like the column card_id",
    M.format("MEASURES SUM(A.card_id) AS s PATTERN (A B)"): "a sum of string",
    M.format("DEFINE A AS amount > 1"): "there is no PATTERN (...)",
    "SELECT 1 FROM payments MATCH_RECOGNIZE PATTERN (A)": "q.sql:1:24: MATCH_RECOGNIZE wants ( behind it",
    "SELECT 1 FROM payments MATCH_RECOGNIZE (PATTERN (A)": "the ( of MATCH_RECOGNIZE is not closed",
    "SELECT 1 FROM payments MATCH_RECOGNIZE (ORDER BY event_time DESC PATTERN (A))": "rows come in ascending order",
    "SELECT 1 FROM payments MATCH_RECOGNIZE (ORDER BY amount PATTERN (A))": "wants ORDER BY the event time: event_time",
    "SELECT 1 FROM payments MATCH_RECOGNIZE (PARTITION BY crd_id ORDER BY event_time PATTERN (A))": (
        "q.sql:1:54: there is no column crd_id (did you mean card_id?)"
    ),
    # JOIN
    "SELECT 1 FROM payments JOIN changes": "q.sql:1:29: JOIN wants ON",
    "SELECT 1 FROM payments JOIN changes USING (card_id)": "USING is not part of the subset (write ON)",
    "SELECT 1 FROM payments NATURAL JOIN changes": "NATURAL JOIN is not part of the subset",
    "SELECT 1 FROM payments LEFT SEMI JOIN changes ON TRUE": "q.sql:1:34: SEMI JOIN is not part of the subset",
    "SELECT 1 FROM payments a JOIN changes a ON TRUE": "two tables are called a (name one: AS other)",
    "SELECT card_id FROM payments a JOIN changes b ON a.card_id = b.card_id": (
        "q.sql:1:8: card_id may mean several columns (one of a.card_id, b.card_id)"
    ),
    "SELECT 1 FROM payments a JOIN changes b ON a.crd_id = b.card_id": "no column a.crd_id (did you mean card_id",
    "SELECT 1 FROM payments a JOIN changes b ON a.amount": "ON wants a condition, not float64",
    "SELECT 1 FROM payments a JOIN changes b ON SUM(a.items) = b.level": "the aggregate SUM is not allowed in ON",
    "SELECT 1 FROM payments a JOIN changes FOR SYSTEM_TIME AS OF a.card_id AS b ON a.card_id = b.card_id": (
        "card_id is no timestamp, but string"
    ),
    "SELECT 1 FROM payments a JOIN changes FOR SYSTEM_TIME AS OF a.event_time AS b ON a.items > b.level": (
        "FOR SYSTEM_TIME AS OF wants ON left.key = right.key"
    ),
    "SELECT 1 FROM payments a RIGHT JOIN changes FOR SYSTEM_TIME AS OF a.event_time AS b ON a.card_id = b.card_id": (
        "FOR SYSTEM_TIME AS OF goes with JOIN and LEFT JOIN, not RIGHT JOIN"
    ),
    "SELECT 1 FROM payments FOR SYSTEM_TIME AS OF event_time": "is for the right side of a JOIN",
    # CREATE TABLE
    "CREATE TABLE t (a INTT)": "q.sql:1:19: there is no type INTT (did you mean INT?)",
    "CREATE TABLE t (a INT, a INT)": "q.sql:1:24: two columns are called a",
    "CREATE TABLE t (a INT, WATERMARK FOR a AS a)": "q.sql:1:38: WATERMARK names no timestamp column",
    "CREATE TABLE t (at TIMESTAMP(3), WATERMARK FOR att AS at - INTERVAL '5' SECOND)": (
        "q.sql:1:48: there is no column att (did you mean at?)"
    ),
    "CREATE TABLE t (at TIMESTAMP(3), WATERMARK FOR at AS att - INTERVAL '5' SECOND)": (
        "q.sql:1:54: there is no column att (did you mean at?)"
    ),
    "CREATE TABLE t (at TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL)": (
        "q.sql:1:33: metadata columns are not part of the subset"
    ),
    "CREATE TABLE t (a INT": "q.sql:1:19: ) is wanted here",
    "CREATE TABLE t (a AS 1 + 2)": "q.sql:1:19: computed columns are not part of the subset",
    "CREATE TABLE t (a DECIMAL(38, 18))": "q.sql:1:19: at most 15 decimals are kept",
    "CREATE FUNCTION f AS 'x'": "q.sql:1:8: CREATE FUNCTION is no statement of the subset",
    # bounds
    "SELECT " + "(" * 60 + "1" + ")" * 60 + " FROM payments": "nested more than 30 levels deep",
    "SELECT " + "1 + " * 3000 + "1 FROM payments": "at most 4000 are allowed",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    return {
        "payments": write(folder, "payments", payments(5)),
        "changes": write(folder, "changes", changes(5)),
        "untimed": write(folder, "untimed", [{"a": 1}]),
    }


@pytest.mark.parametrize(("sql", "said"), WRONG.items(), ids=range(len(WRONG)))
def test_it_is_said_what_is_wrong(sql: str, said: str, files: dict[str, Path]) -> None:
    assert said in refusal(sql, files)


def test_all_that_is_wrong_is_said_at_once(files: dict[str, Path]) -> None:
    said = refusal("SELECT a FROM payments;\nSELECT 1 FROM payments;\nSELECT b FROM changes", files).splitlines()
    assert [line.partition(" ")[0] for line in said] == ["q.sql:1:8:", "q.sql:3:8:"]


BROKEN = {
    "a,b\n1\n": ("csv", "SELECT a FROM t", "t.csv:2: the row has 1 cells, the head 2"),
    "a,a\n1,2\n": ("csv", "SELECT a FROM t", "t.csv:1: two columns are called 'a'"),
    '{"a": 1}\n{"a"\n': ("ndjson", "SELECT a FROM t", "t.ndjson:2: the line is no JSON object"),
    '{"a": 1}\n{"a": 1e400}\n': ("ndjson", "SELECT a FROM t", "t.ndjson:2: a number is too large"),
    "not parquet": ("parquet", "SELECT a FROM t", "this is no readable Parquet file"),
    "a\n1\nsecret\n": ("csv", "CREATE TABLE t (a INT); SELECT a FROM t", "q.sql:1:17: a is no int64 in "),
    "a\n1\n\n": (
        "csv",
        "CREATE TABLE t (b INT); SELECT b FROM t",
        "t.csv has no column b (the file has a)",
    ),
    "a,b\n1,\n": ("csv", "CREATE TABLE t (b INT NOT NULL); SELECT b FROM t", "t.csv:2, but declared NOT NULL"),
    "a\n1.234\n": ("csv", "CREATE TABLE t (a DECIMAL(5, 2)); SELECT a FROM t", "q.sql:1:17: a is no decimal(2) in "),
    "a\n1\n9223372036854775807\n": (
        "csv",
        "SELECT a,\na * 3 FROM t",
        "q.sql:2:1: a number is too large, in EXPR$1, in row 2 of t",
    ),
    "a\n1\n2\nsecret\n": (
        "csv",
        "SELECT 1 FROM t WHERE CAST(a AS INT) > 0",
        "q.sql:1:23: a value cannot be cast, in row 3 of t (TRY_CAST gives NULL instead)",
    ),
    "a,b\n1,1\nsecret,2\n": (
        "csv",
        "SELECT b, SUM(CAST(a AS INT)) FROM t GROUP BY b",
        "q.sql:1:11: a value cannot be cast, in row 2 of t",
    ),
    "event_time,b\n,1\n2026-05-01T00:00:00Z,2\n": (
        "csv",
        "SELECT COUNT(*) FROM t GROUP BY TUMBLE(event_time, INTERVAL '1' DAY)",
        "q.sql:1:33: event_time is NULL in row 1 of t: what is timed needs a time (WHERE event_time IS NOT NULL)",
    ),
    "event_time,b\n2026-05-01T00:00:00Z,1\n2026-05-01T00:00:00Z,2\n": (
        "csv",
        "SELECT COUNT(*) FROM t AS p RIGHT JOIN (SELECT b + 1 AS b FROM t) AS q ON p.b = q.b\n"
        "GROUP BY TUMBLE(p.event_time, INTERVAL '1' DAY)",
        "q.sql:2:10: event_time is NULL in a row: what is timed needs a time",
    ),
}


@pytest.mark.parametrize(("text", "case"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_file_that_does_not_fit_is_refused(text: str, case: tuple[str, str, str], tmp_path: Path) -> None:
    suffix, sql, said = case
    path = tmp_path / f"t.{suffix}"
    path.write_text(text)
    found = refusal(sql, {"t": path})
    assert said in found
    assert "secret" not in found
