"""Names, places, errors, bounds and overflow."""

from __future__ import annotations

import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Batch, Column
from operators.expressions import ExpressionOperator
from operators.operator import OutputField
from operators.schema import DataType, Kind
from operators.tables import LookupTable
from state.errors import ConfigError, Place, RecordError
from streamproc.language.expression import CallNode, columns_of, compile_expression, parse, rewrite_calls
from tests.language.expression.support import (
    BOOL,
    COLUMNS,
    FLOAT,
    INT,
    LOOKUPS,
    MONEY,
    SCOPE,
    STRING,
    TABLES,
    TIME,
    batch_of,
    compiled,
    operator_of,
    ours,
    plain,
)

HERE = Place("fraud.yaml", 12, 15)
INT_MAX = 2**63 - 1
ROW = dict.fromkeys(COLUMNS) | {"ki": 0, "kf": 0.0, "km": 0, "ks": "", "kb": False, "kt": 0, "event_time": 0}


def one(text: str, **cells: object) -> object:
    """The value for one row."""
    return ours([text], [ROW | cells])[0][0]


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compile_expression(parse(text, HERE), SCOPE | {"amount": SCOPE["m"]}, TABLES)
    return str(caught.value)


ERRORS = {
    "ki > 1 AND amuont > 100": "fraud.yaml:12:26: there is no column amuont (did you mean amount?)",
    "ki >\n  amuont": "fraud.yaml:13:3: there is no column amuont (did you mean amount?)",
    "uper(s) = 'A'": "fraud.yaml:12:15: there is no function uper (did you mean upper?)",
    "s IN TABLE(blokced)": "fraud.yaml:12:20: there is no table blokced (did you mean blocked?)",
    "TABLE(limits, i).topp > 1": "fraud.yaml:12:15: there is no column of the table limits topp (did you mean top?)",
    "amount > 's'": "fraud.yaml:12:15: decimal(2) and string do not go together",
    "amount + s": "fraud.yaml:12:15: + wants two numbers, not decimal(2) and string",
    "b AND i": "fraud.yaml:12:21: a bool (a condition) is wanted here, not int64",
    "CASE WHEN i THEN 1 END": "fraud.yaml:12:25: a bool (a condition) is wanted here, not int64",
    "CASE WHEN b THEN 1 ELSE 'x' END": "int64 and string do not go together",
    "coalesce(t, 1)": "timestamp and int64 do not go together",
    "TABLE(limits, s).top": "int64 is wanted here, not string",
    "i IN TABLE(blocked)": "string is wanted here, not int64",
    "t > 'yesterday'": "the text is not a timestamp such as '2026-05-03T10:00:00Z'",
    "t + 5": "+ does not take timestamp and int64",
    "t - u > 5": "interval and int64 do not go together; compare a duration with an INTERVAL, or use date_diff",
    "t - INTERVAL '1' MONTH": "months and years differ in length: use days",
    "round(f, i)": "the digits must be a whole literal",
    "substr(s)": "wrong number of arguments: substr(s, start [, length])",
    "NULL": "the type of NULL is not known here; write CAST(NULL AS <type>)",
    "9223372036854775807 + 1": "the constants fail: overflow",
    "9223372036854775808": "the number does not fit int64",
    "CAST('x' AS int64)": "the constants fail: cast",
    "CAST(f AS string)": "float64 cannot be cast to string",
    "CAST(i AS decimal)": "say the number of decimals: decimal(2)",
    "CAST(s AS CHAR(1))": "there is no type CHAR(1); the types are int64, float64, decimal(n), string, varchar(n)",
    "CAST(s AS varchar(0))": "there is no type VARCHAR(0)",
    "CAST(i AS DECIMAL(2, 3))": "DECIMAL(p, s) has p digits, s of them decimals: s is at most p",
    "m * m * m * m * m * m * m * m": "the result has 16 decimals, at most 15 are kept",
    "sum(f) OVER ()": "OVER is not part of the expression language",
    "(SELECT 1)": "a query is not part of the expression language",
    "i IN (SELECT 1)": "IN wants a list (1, 2) or table(name)",
    "EXISTS(SELECT 1)": "EXISTS is not part of the expression language",
    "s LIKE r": "LIKE wants a text literal of at most 500 characters",
    "regexp_like(s, r)": "the pattern must be a text literal of at most 500 characters",
    "regexp_like(s, '(')": "the pattern is not a regular expression of RE2",
    "regexp_like(s, '(?=a)')": "the pattern is not a regular expression of RE2",
    "current_timestamp > t": "there is no column current_timestamp",
    "now() > t": "there is no function now (a clock would not give the same twice: the event time is a column)",
    "eval('1')": "there is no function eval",
    "__import__('os')": "there is no function __import__",
    "*": "* is not part of the expression language",
    "a.*": "* is not part of the expression language",
    "i[1]": "[...] is not part of the expression language",
    "t AT TIME ZONE 'CET'": "AT TIME ZONE is not part of the expression language",
    "i >": "fraud.yaml:12:17: cannot parse the expression at '>': an operand is missing",
    "i > 1 1": "fraud.yaml:12:21: cannot parse the expression at '1': this does not fit here",
    "i = 'x": "a quote is not closed?",
    "i; j": "fraud.yaml:12:16: one expression is wanted here; ';' ends it",
    "": "fraud.yaml:12:15: one expression is wanted here",
    "date_diff('decade', t, u)": "the unit must be one of millisecond, second, minute, hour, day, week",
}


@pytest.mark.parametrize("text", ERRORS)
def test_what_is_wrong_is_said_with_its_place(text: str) -> None:
    message = refused(text)
    assert ERRORS[text] in message
    assert message.startswith("fraud.yaml:1")


BOMBS = {
    "parentheses": "(" * 5_000 + "1" + ")" * 5_000,
    "negations": "NOT " * 3_000 + "b",
    "minus": "- " * 3_000 + "1",
    "sum": "+".join(["i"] * 1_900),
    "case": "CASE WHEN b THEN " * 900 + "1" + " END" * 900,
    "calls": "abs(" * 900 + "1" + ")" * 900,
    "length": "i" * 30_000,
    "regexp": "regexp_like(s, '((((a{1000}){1000}){1000}){1000})')",
    "pattern": "s LIKE '" + "%a" * 400 + "'",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ConfigError):
        compile_expression(parse(BOMBS[name], HERE), SCOPE, TABLES)
    assert time.perf_counter() - start < 3


def test_a_long_list_of_conditions_is_no_bomb() -> None:
    assert one(" OR ".join(f"ki = {n}" for n in range(900)), ki=899) is True


def test_patterns_match_in_bounded_time() -> None:
    start = time.perf_counter()
    assert one("s LIKE '" + "%a" * 200 + "b'", s="a" * 20_000) is False
    assert one("regexp_like(s, '(a*)*(a*)*b$')", s="a" * 20_000) is False
    assert time.perf_counter() - start < 3


def test_a_text_does_not_grow_without_bound() -> None:
    grow = "s"
    for _ in range(6):
        grow = f"replace({grow}, 'a', 'aaaaaaaaaa')"
    assert one(f"length({grow})", s="b") == 1
    with pytest.raises(RecordError, match="overflow"):
        one(f"length({grow})", s="a")


INTS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, -1, INT_MAX, -INT_MAX - 1, 2**31, -(2**32)]))


@given(a=INTS, b=INTS, sign=st.sampled_from("+-*"))
def test_integers_are_exact_or_an_overflow(a: int, b: int, sign: str) -> None:
    exact = {"+": a + b, "-": a - b, "*": a * b}[sign]
    if -(2**63) <= exact < 2**63:
        assert one(f"i {sign} j", i=a, j=b) == exact
        assert one(f"i {sign} ki", i=a, ki=b) == exact
    else:
        with pytest.raises(RecordError, match="overflow"):
            one(f"i {sign} j", i=a, j=b)


DECIMALS = st.integers(1 - 2**53, 2**53 - 1)


@given(a=DECIMALS, b=DECIMALS, c=DECIMALS)
def test_decimals_are_exact_or_an_overflow(a: int, b: int, c: int) -> None:
    row = {"m": a, "n": b, "km": c}
    assert one("m + n > km", **row) is (a + b > c)
    assert one("m - n = km", **row) is (a - b == c)
    for text, exact in {"m + n + km": a + b + c, "m - n": a - b, "m * 3": a * 3, "m * n": a * b}.items():
        if abs(exact) < 2**53:
            assert one(text, **row) == exact
        else:
            with pytest.raises(RecordError, match="overflow"):
                one(text, **row)


@given(m=DECIMALS, literal=st.decimals(-1000, 1000, places=4), sign=st.sampled_from(["<", "<=", "=", "<>", ">=", ">"]))
def test_a_decimal_against_a_literal_is_exact(m: int, literal: Decimal, sign: str) -> None:
    value = Decimal(m % 200_000).scaleb(-2) - 1000
    truth = {
        "<": value < literal,
        "<=": value <= literal,
        "=": value == literal,
        "<>": value != literal,
        ">=": value >= literal,
        ">": value > literal,
    }[sign]
    assert one(f"m {sign} {literal}", m=int(value.scaleb(2))) is truth
    flipped = sign.translate(str.maketrans("<>", "><")) if sign != "<>" else sign
    assert one(f"{literal} {flipped} m", m=int(value.scaleb(2))) is truth


def test_an_error_counts_only_where_its_value_is_needed() -> None:
    big = {"ki": INT_MAX, "i": INT_MAX, "kb": False}
    for text, value in {
        "CASE WHEN ki < 10 THEN ki * 4 ELSE 0 END": 0,
        "CASE WHEN kb THEN ki + 1 WHEN TRUE THEN 7 ELSE ki * 2 END": 7,
        "if(kb, ki + 1, 2)": 2,
        "coalesce(5, ki + 1)": 5,
        "coalesce(i, ki + 1)": INT_MAX,
        "kb AND ki + 1 > 0": False,
        "ki + 1 > 0 AND kb": False,
        "NOT kb OR ki + 1 > 0": True,
        "j + (ki + 1)": "overflow",
        "i + 1": "overflow",
        "-(i - 9223372036854775807 - 1 - i)": "overflow",
        "abs(-ki - 1)": "overflow",
        "coalesce(j, ki + 1)": "overflow",
        "NOT kb AND ki + 1 > 0": "overflow",
        "(i + 1) IS NULL": "overflow",
        "CASE WHEN ki + 1 > 0 THEN 1 ELSE 2 END": "overflow",
        "least(1, ki + 1)": "overflow",
        "ki * 1.5": "overflow",
        "ki + km": "overflow",
        "ki > km": "overflow",
        "date_add('week', ki, kt)": "overflow",
        "CAST(ki AS decimal(2))": "overflow",
        "CAST('a' || s AS int64)": "cast",
        "CAST(ki AS TINYINT)": "cast",
        "CAST(i AS INT)": "cast",
        "CAST(i AS DECIMAL(4, 2))": "cast",
        "TRY_CAST(ki AS SMALLINT)": None,
        "CAST(ki AS DECIMAL(999999999, 0)) = ki": True,
        "CAST(1e30 * (1 + kf) AS int64)": "cast",
    }.items():
        if isinstance(value, str):
            with pytest.raises(RecordError) as caught:
                one(text, s="1", **big)
            assert caught.value.reason in {value, "cast"}, text
        else:
            assert one(text, **big) == value, text


def test_an_overflow_of_one_row_is_not_hidden_by_its_neighbours() -> None:
    rows = [ROW | {"ki": 1}, ROW | {"ki": INT_MAX}]
    with pytest.raises(RecordError) as caught:
        ours(["ki + 1"], rows)
    assert str(INT_MAX) not in str(caught.value)
    assert ours(["CASE WHEN ki < 5 THEN ki + 1 END"], rows) == [[2, None]]


@given(m=st.integers(1 - 2**53, 2**53 - 1), i=st.integers(-(2**63), 2**63 - 1).filter(bool), ki=st.integers(1, 10**6))
def test_decimals_are_divided_exactly_and_rounded_once(m: int, i: int, ki: int) -> None:
    """By Python's fractions; int64 columns have no bound, so most values but not all would go through floats."""
    found = {
        "m / i": Fraction(m, 100 * i),
        "m / ki": Fraction(m, 100 * ki),
        "i / km": Fraction(100 * i, 7),
        "m / CAST(km AS decimal(6))": Fraction(m, 7),
        "m / 400": Fraction(m, 40_000),
    }
    for text, exact in found.items():
        assert one(text, m=m, i=i, ki=ki, km=7) == float(exact), text
    assert one("m / i", m=m, i=0) is None


def test_what_is_not_a_number_is_null() -> None:
    for text in [
        "kf / 0", "0 / kf", "ki % 0", "1e308 * 10 * (kf + 1)", "ln(kf)", "ln(-1)", "log10(0)", "sqrt(-1)", "exp(1000)",
        "power(kf, -1)", "power(-8, 0.5)", "1 / (1 / kf)", "0 * (1 / kf)", "hours_since(kt) / hours_since(event_time)",
    ]:  # fmt: skip
        assert compiled(text).nullable, text
        assert one(text) is None, text
    assert one("coalesce(1 / kf, -1)") == -1
    assert one("(1 / kf) > 0") is None
    assert one("(1 / kf) IS NULL") is True


def test_nullability_is_inferred() -> None:
    for text, nullable in {
        "ki + km * 2": False,
        "i + 1": True,
        "ki / 2": True,
        "coalesce(i, 0)": False,
        "kb AND b": True,
        "b IS NULL": False,
        "CASE WHEN b THEN 1 ELSE 2 END": False,
        "CASE WHEN kb THEN 1 END": True,
        "nullif(ki, 1)": True,
        "ks || 'x'": False,
        "least(i, ki)": False,
        "ks IN TABLE(blocked)": False,
        "TABLE(limits, ki).top": True,
        "hour(kt)": False,
        "b IS TRUE": False,
        "i IS DISTINCT FROM j": False,
        "concat(s, r)": False,
        "CAST(ki AS string)": False,
        "TRY_CAST(ks AS int64)": True,
        "kf + kf": True,
        "kf > 1": False,
        "ki IN (1, NULL)": True,
    }.items():
        assert compiled(text).nullable is nullable, text


def test_equal_subexpressions_are_computed_once() -> None:
    operator = operator_of(["i + j > 3", "i + j > 4", "(i + j) * 2", "hour(t) = 3 OR hour(t) = 4"])
    assert operator._program.size == 8
    again = ExpressionOperator([("a", compiled("i + j")), ("b", compiled("i + j"))])
    assert again._program.size == 1


def test_a_later_expression_reads_an_earlier_ones_column() -> None:
    scope = SCOPE | {"twice": OutputField("twice", INT, nullable=False)}
    twice = compile_expression(parse("ki * 2", HERE), scope)
    more = compile_expression(parse("twice + ki", HERE), scope)
    operator = ExpressionOperator([("twice", twice), ("more", more)])
    assert operator.inputs == ("ki",)
    assert [field.name for field in operator.outputs] == ["twice", "more"]
    batch = batch_of([ROW | {"ki": 5}])
    operator.process(batch, None)  # type: ignore[arg-type]
    assert plain(batch.columns["more"]) == [15]


def test_garbage_beneath_null_is_harmless() -> None:
    valid = np.array([False, True])
    columns = {
        "i": Column(INT, np.array([INT_MAX, 1]), valid),
        "f": Column(FLOAT, np.array([np.nan, 1.0]), valid),
        "b": Column(BOOL, np.array([True, True]), valid),
    }
    times = np.zeros(2, np.int64)
    batch = Batch(size=2, tasks=(), event_time=times, keys=["", ""], columns=columns)
    texts = ["i + i", "i * 9", "f + 1", "b AND b", "b OR FALSE", "NOT b", "CASE WHEN b THEN 1 ELSE 2 END", "f > 0"]
    operator_of(texts).process(batch, None)  # type: ignore[arg-type]
    found = [plain(batch.columns[f"out{n}"])[0] for n in range(len(texts))]
    assert found == [None, None, None, None, None, None, 2, None]


def test_calls_are_rewritten_innermost_first() -> None:
    seen: list[CallNode] = []

    def replace(call: CallNode) -> str:
        seen.append(call)
        return f"state.{len(seen)}"

    text = "amount > 100 AND Previous(amount + previous(lat), 3) < 2 AND first_seen(\n merchant_id) AND abs(x.y) > 1"
    expr = parse(text, HERE)
    changed = rewrite_calls(expr, {"previous", "first_seen"}, replace)
    assert [call.sql for call in seen] == [
        "previous(lat)", 'previous(amount + "state.1", 3)', "first_seen(merchant_id)",
    ]  # fmt: skip
    assert [call.place for call in seen] == [
        HERE._replace(column=50),
        HERE._replace(column=32),
        HERE._replace(column=76),
    ]
    assert seen[1].args[1].literal == 3
    assert (seen[0].args[0].column, seen[1].args[0].column) == ("lat", None)
    assert columns_of(changed) == {"amount", "state.2", "state.3", "x.y"}
    assert columns_of(expr) == {"amount", "lat", "merchant_id", "x.y"}
    assert parse(" Previous( lat ,  2 )", HERE).sql == parse("PREVIOUS(lat,2) -- two back", HERE).sql


@pytest.mark.parametrize(
    "name",
    ["user", "date", "timestamp", "left", "end", "count", "row", "key", "value", "type", "language", "all"],
)
def test_a_keyword_can_be_a_column(name: str) -> None:
    for written in (name, f'"{name}"'):
        expr = parse(f"{written} > 1 AND {written} + 1 < 5", HERE)
        assert columns_of(expr) == {name}
        assert compile_expression(expr, {name: OutputField(name, INT)}).inputs == (name,)


def test_dotted_and_strange_names() -> None:
    names = ["fraud.score", "a.b.c.d.e", "two words", "select"]
    scope = {name: OutputField(name, FLOAT) for name in names}
    expr = parse('fraud.score > 1 AND a.b.c.d.e > "two words" + "select" AND "fraud.score" > 2', HERE)
    assert columns_of(expr) == set(names)
    assert set(compile_expression(expr, scope).inputs) == set(names)


def test_tables_are_snapshots() -> None:
    kinds = {"id": STRING, "top": MONEY}
    lookups = {"t": LookupTable("t", "id", kinds, [{"id": "a", "top": 1}])}
    reads = compile_expression(
        parse("ks IN TABLE(t) AND TABLE(t, ks).top > 0", HERE), SCOPE, {"t": lookups["t"].schema}
    )
    assert reads.tables == ("t",)
    operator = ExpressionOperator([("out", reads)], lookups)
    batch = batch_of([ROW | {"ks": "a"}, ROW | {"ks": "b"}])
    operator.process(batch, None)  # type: ignore[arg-type]
    assert plain(batch.columns["out"]) == [True, False]
    lookups["t"] = LookupTable("t", "id", kinds, [{"id": "b", "top": None}])
    operator.process(batch, None)  # type: ignore[arg-type]
    assert plain(batch.columns["out"]) == [False, None]
    with pytest.raises(ValueError, match="reads the table t"):
        ExpressionOperator([("out", reads)], {})
    for rows, what in (([{"id": "a"}, {"id": "a"}], "row 2 repeats"), ([{"top": 1}], "row 1 has no key")):
        with pytest.raises(ValueError, match=what):
            LookupTable("t", "id", kinds, rows)
    assert len(LOOKUPS["blocked"]) == 3


def test_a_timestamp_stays_within_four_digit_years() -> None:
    assert one("CAST(kt + INTERVAL '1' MILLISECOND AS string)") == "1970-01-01T00:00:00.001Z"
    with pytest.raises(RecordError, match="overflow"):
        one("kt + INTERVAL '1' WEEK", kt=253_402_300_799_999)
    assert one("kt - INTERVAL '90' MINUTES < TIMESTAMP '1969-12-31T22:30:00.001Z'") is True
    assert one("t > '2026-05-03T10:00:00+02:00'", t=1_777_795_200_001) is True
    assert (TIME, DataType(Kind.TIMESTAMP)) == (TIME, TIME)


def test_an_empty_batch_gives_empty_columns() -> None:
    texts = ["i + j", "f / g", "s LIKE 'a%'", "1 = 1", "s IN TABLE(blocked)", "distance_km(f, g, f, 1)", "i IN (1, 2)"]
    batch = batch_of([ROW])
    empty = {name: column.take(np.array([], np.intp)) for name, column in batch.columns.items()}
    none = Batch(size=0, tasks=(), event_time=batch.event_time[:0], keys=[], columns=empty)
    operator_of(texts).process(none, None)  # type: ignore[arg-type]
    assert all(len(none.columns[f"out{n}"].values) == 0 for n in range(len(texts)))
