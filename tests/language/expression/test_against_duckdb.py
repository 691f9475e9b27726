"""Every operator and function gives what DuckDB gives, on random rows with NULLs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from operators.batch import Batch, Column
from state.errors import ConfigError
from tests.language.expression.support import FLOAT, Reference, Row, compiled, operator_of, ours, plain, rows, same

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)

TEMPLATES = {
    "arithmetic": """
        i + j|i - j|i * j|i / j|i % j|ki + 1|3 - ki|i * 2|-i|-ki|i + m|m + n|m - n|m * n|m / n|m % n|m * 0.5
        |km * 3|m + 1.005|m - i|i / m|m / 3|f + g|f - g|f * g|f / g|-f|f + i|f - m|m * f|f / 0|i / 0|i % 0|m % 0
        |kf / ki|(f / g) + 1|(f / g) * 0|1 / (f / g)|f % g|i % 7|mod(i, j)|mod(m, 0.3)|i % -1|2 * (i + 3) - j
        |(i + j) * (i - j)
    """,
    "comparison": """
        i = j|i <> j|i < j|i <= j|i > j|i >= j|i > 2|2 > i|i > 2.5|i <= 2.5|i = 2.5|i <> 2.5|2.5 >= i|m > 1
        |m < 0.01|m = 0.5|m >= 0.005|m <= 0.005|m < -0.015|m = 0.005|m <> 0.005|m = 100|m > i|i >= m|m = n|m < n
        |f > g|f = g|f > 1|f <= 2.5|f > m|m > f|i < f|f = i|s = r|s <> r|s < r|s >= r|s = 'a'|'b' > s|ks = 'ab'
        |b = c|b <> c|b = TRUE|t < u|t = u|t >= TIMESTAMP '2001-09-09T01:46:40Z'|t > '2001-09-09T01:46:40Z'
        |t <= DATE '2024-02-29'|t - u > INTERVAL '5' DAYS|i = NULL|NULL < m|(f / g) > 1|(f / g) = 1|i > 1e3
        |km > 2.00|ki BETWEEN 1 AND 3|i BETWEEN j AND 5|m BETWEEN 0.5 AND 10|f NOT BETWEEN g AND 2
        |s BETWEEN 'a' AND 'b'
    """,
    "logic": """
        b AND c|b OR c|NOT b|b AND kb|kb OR c|NOT kb|b AND NULL|b OR NULL|NULL AND kb|b AND TRUE|b OR FALSE
        |b AND c AND i > 0|b OR c OR i > 0|b IS NULL|b IS NOT NULL|kb IS NULL|i IS NULL|s IS NOT NULL
        |(f / g) IS NULL|b IS TRUE|b IS FALSE|b IS NOT TRUE|b IS NOT FALSE|i IS DISTINCT FROM j
        |i IS NOT DISTINCT FROM j|s IS DISTINCT FROM r|m IS DISTINCT FROM 0.5|ki IS DISTINCT FROM i
        |b IS NOT DISTINCT FROM c|i IN (1, 2, 3)|i NOT IN (1, 2)|i IN (1, NULL)|i NOT IN (1, NULL)|i IN (j, 3)
        |i IN (1.5, 2)|i IN (1.5, 2.5)|i IN (4)|m IN (0.5, 1, 2.005)|f IN (0.5, 1)|s IN ('a', 'b', 'AB')
        |s IN ('a', r, NULL)|ks NOT IN ('a', '')|b IN (TRUE)|s IN TABLE(blocked)|ks NOT IN TABLE(blocked)
        |lower(s) IN TABLE(blocked)
    """,
    "choice": """
        CASE WHEN i > 0 THEN i ELSE -i END|CASE WHEN b THEN i END|CASE WHEN b THEN m WHEN c THEN f ELSE 0 END
        |CASE i WHEN 1 THEN 'one' WHEN 2 THEN s ELSE r END|CASE WHEN b THEN NULL ELSE m END
        |CASE WHEN kb THEN km ELSE ki END|CASE WHEN b THEN t ELSE u END|CASE WHEN TRUE THEN i ELSE j END
        |CASE WHEN NULL THEN i ELSE j END|if(b, i, j)|if(b, m)|coalesce(i, j)|coalesce(i, j, 0)|coalesce(m, 0)
        |coalesce(i, f)|coalesce(s, r, 'x')|coalesce(NULL, b, c)|coalesce(b, FALSE)|coalesce(i / 0, f)
        |nullif(i, j)|nullif(m, 0)|nullif(s, '')|nullif(i, 1.5)|least(i, j)|greatest(i, j)|least(m, 0.5, n)
        |greatest(f, g, i)|least(s, r)|greatest(t, u)|least(i, NULL)|least(ki, i, j)|greatest(ki, j)
        |TABLE(limits, i).top|TABLE(limits, ki).word|m > TABLE(limits, i).top
        |coalesce(TABLE(limits, i).top, 7.25)
    """,
    "functions": """
        abs(i)|abs(m)|abs(f)|sign(i)|sign(m)|sign(f)|round(f)|round(f, 2)|round(f, -2)|round(m)|round(m, 1)
        |round(m, 3)|round(i, -2)|round(i)|round(m, -1)|floor(f)|ceil(f)|floor(m)|ceil(m)|floor(i)|ceiling(i)
        |sqrt(f)|sqrt(i)|ln(f)|ln(m)|log10(i)|exp(f / 100000)|exp(f)|power(f / 1000, 2)|power(i, 0.5)|pow(f, i)
        |distance_km(kf / 20000, f / 10000, g / 20000, 13.4)|distance_km(f / 20000, g / 10000, ki / 20000, 5)
    """,
    "text": """
        lower(s)|upper(s)|trim(s)|length(s)|substr(s, 2)|substr(s, 1, 2)|substr(s, -2)|substr(s, -3, 2)
        |substr(s, 0, 2)|substring(s, 2, 0)|starts_with(s, 'a')|starts_with(s, r)|ends_with(s, 'b')
        |contains(s, r)|contains(ks, 'a')|strpos(s, 'a')|strpos(s, r)|replace(s, 'a', 'xyz')|replace(s, r, '')
        |replace(s, '', 'q')|concat(s, r)|concat(s, '-', ks)|concat(s)|s || r|'<' || s || '>'|s LIKE 'a%'
        |s LIKE '%a'|s LIKE '%a%b%'|s LIKE 'a_'|s LIKE '_%_'|s LIKE ''|s LIKE '%'|s NOT LIKE '%A%'
        |s LIKE 'a!%%' ESCAPE '!'|s LIKE '%!_' ESCAPE '!'|s LIKE 'a.%'|s LIKE '%a_b'|regexp_like(s, '^[ab]+$')
        |regexp_like(s, 'a.b')|regexp_like(ks, '(a|b)1?')|regexp_replace(s, '[ab]+', 'xy')|regexp_replace(ks, 'a?', '-')
        |regexp_replace(s, '^.', '\\')|concat_ws('-', s, r, ks)|concat_ws(s, r, 'x')|concat_ws(ks, s)
    """,
    "time": """
        hour(t)|minute(t)|second(t)|day(t)|month(t)|year(t)|quarter(t)|day_of_week(t)|dayofweek(t)|day_of_year(t)
        |EXTRACT(HOUR FROM t)|EXTRACT(DOW FROM t)|date_trunc('second', t)|date_trunc('minute', t)
        |date_trunc('hour', t)|date_trunc('day', t)|date_trunc('week', t)|date_trunc('month', t)
        |date_trunc('quarter', t)|date_trunc('year', t)|date_diff('minute', t, u)
        |date_diff('hour', t, event_time)|date_diff('day', u, t)|date_diff(week, u, t)
        |timestampdiff(SECOND, t, u)|date_diff('millisecond', t, u)|date_add('minute', 5, t)
        |date_add('hour', i, t)|date_add('hour', ki, kt)|t + INTERVAL '5' MINUTES|t - INTERVAL '3' DAY
        |INTERVAL '2' HOURS + kt|t - u|kt - INTERVAL '1' WEEK|hours_since(t)|minutes_since(u)|seconds_since(kt)
        |days_since(t)|date_format(t, 'yyyy-MM-dd HH:mm:ss.SSS')|date_format(kt, 'dd.MM.yyyy, HH:mm')
        |epoch_ms(t)|(t - u) + INTERVAL '1' HOUR > INTERVAL '0' SECONDS|event_time > t
    """,
    "casts": """
        CAST(i AS float64)|CAST(i AS decimal(2))|CAST(i AS string)|CAST(i AS bool)|CAST(m AS int64)
        |CAST(m AS decimal(1))|CAST(m AS decimal(4))|CAST(m AS float64)|CAST(m AS string)|CAST(f AS int64)
        |CAST(f AS decimal(2))|CAST(b AS int64)|CAST(b AS string)|TRY_CAST(s AS timestamp)
        |CAST(CAST(i AS string) AS int64)|CAST(CAST(m AS string) AS decimal(2))
        |CAST(CAST(i AS string) AS float64)|CAST(CAST(b AS string) AS bool)|CAST(b AS float64)
        |CAST(NULL AS int64)|CAST(f AS bool)|CAST('12.345' AS decimal(2))|CAST('-12.345' AS decimal(2))
        |m::float64|TRY_CAST(f AS int64)|CAST(i AS DECIMAL(18, 2))|CAST(t AS DATE)|CAST(t AS DATE) = CAST(u AS DATE)
        |TRY_CAST(i AS SMALLINT)|TRY_CAST(ki AS TINYINT)|CAST(i AS INT)|TRY_CAST(i AS DECIMAL(4, 1))
        |TRY_CAST(m AS DECIMAL(5, 3))|TRY_CAST(f AS DECIMAL(3, 1))|CAST(s AS VARCHAR(2))|CAST(i AS VARCHAR(3))
        |TRY_CAST(s AS DATE)|CAST('2026-05-01 23:59:00' AS DATE)|CAST(CAST(t AS string) AS DATE)
    """,
}

RARER = {  # tried on fewer rows
    "numbers": """
        truncate(f)|truncate(f, 2)|truncate(f, -2)|truncate(m)|trunc(m, 1)|truncate(m, 3)|truncate(i, -2)|trunc(i)
        |truncate(m, -1)|log(f)|log(m)|log(2, f)|log(f, i)|log2(f)|log2(i)|sin(f)|cos(f)|tan(f)|cot(f)|asin(f / 100)
        |acos(m / 100)|atan(f)|atan2(f, g)|sinh(f / 10000)|cosh(f / 10000)|tanh(f)|degrees(f)|radians(i)|pi() * f
        |e() + m
    """,
    "shapes": """
        trim(s, r)|btrim(s, 'a')|ltrim(s)|ltrim(s, 'ab')|rtrim(s)|rtrim(s, r)|lpad(s, i % 9, r)|rpad(s, 4, 'xy')
        |lpad(ks, 3, '0')|rpad(s, i % 9, ks)|repeat(s, i % 5)|reverse(s)|translate(s, r, 'xy')|translate(s, 'aAé', r)
        |overlay(s, r, i % 5)|overlay(s, 'x', ki % 5, j % 3)|right(s, i % 5)|locate(s, r)|locate(s, r, i % 5)
        |split_index(s, 'a', i % 4)|split_index(s, r, 1)|split_index(ks, ks, 0)|ascii(s)|chr(i)|chr(ki % 128)|md5(s)
        |sha1(s)|sha256(ks)|sha2(s, 256)|startswith(s, r)|endswith(s, r)|regexp_extract(s, '[ab]+')
        |regexp_extract(s, 'a(.)?b*', 1)|regexp_extract(ks, '(?i)(a)(?:b)', 1)
        |i BETWEEN SYMMETRIC 5 AND j|f BETWEEN SYMMETRIC g AND 2|m NOT BETWEEN SYMMETRIC n AND 1
    """,
    "calendar": """
        week(t)|isoyear(t)|decade(t)|century(t)|millennium(t)|millisecond(t)|epoch(t)|EXTRACT(WEEK FROM t)
        |EXTRACT(EPOCH FROM t)|EXTRACT(ISODOW FROM t)|EXTRACT(DOY FROM t)|EXTRACT(CENTURY FROM t)
        |date_ceil('second', t)|date_ceil('hour', t)|date_ceil('week', t)|date_ceil('month', t)|date_ceil('year', t)
        |date_ceil('day', date_trunc('day', t))|date_ceil('quarter', date_trunc('quarter', t))
        |date_add('month', i % 500, t)|date_add('year', -1, t)|date_add('quarter', ki % 9, kt)
        |to_timestamp(date_format(t, 'dd.MM.yyyy HH:mm:ss'), 'dd.MM.yyyy HH:mm:ss')|to_date(s)
        |to_date(date_format(t, 'yyyy-MM-dd'))|unix_timestamp(date_format(t, 'yyyy-MM-dd HH:mm:ss'))
        |from_unixtime(epoch(t))|from_unixtime(i, 'yyyyMMdd')|to_timestamp_ltz(i)
    """,
}


def split(block: str) -> list[str]:
    """Expressions stand between bars; a regular expression's own bar is kept."""
    return [one.strip() for one in block.replace("(a|b)", "\0").split("|") if one.strip() and not one.isspace()]


def expressions(group: str) -> list[str]:
    block = {**TEMPLATES, **RARER}[group].replace(" || ", "\1")
    return [one.replace("\0", "(a|b)").replace("\1", " || ") for one in split(block)]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def check(reference: Reference, texts: list[str], data: list[Row]) -> None:
    expected = reference.values(texts, data)
    found = ours(texts, data)
    wrong = [
        f"{text}: {mine!r}, DuckDB {theirs!r}, row {row}"
        for text, column, other in zip(texts, found, expected, strict=True)
        for mine, theirs, row in zip(column, other, data, strict=True)
        if not same(mine, theirs)
    ]
    assert not wrong, "\n".join(wrong[:8])


@pytest.mark.parametrize("group", TEMPLATES)
@QUIET
@given(data=rows())
def test_each_operator(reference: Reference, group: str, data: list[Row]) -> None:
    check(reference, expressions(group), data)


@pytest.mark.parametrize("group", RARER)
@settings(QUIET, max_examples=8)
@given(data=rows())
def test_each_rarer_function(reference: Reference, group: str, data: list[Row]) -> None:
    check(reference, expressions(group), data)


# Random trees, by type. No libm and no decimal quotient, where a last bit may differ and a comparison would show it.
LEAVES = {
    "num": ["i", "j", "ki", "m", "n", "km", "f", "kf", "2", "0", "1.5", "0.25", "-3"],
    "exact": ["i", "ki", "m", "km", "2", "0", "1.5", "-3"],
    "bool": ["b", "c", "kb", "TRUE", "FALSE", "NULL", "i IS NULL"],
    "text": ["s", "r", "ks", "'a'", "''"],
    "time": ["t", "u", "kt", "event_time", "TIMESTAMP '2020-02-29T12:00:00Z'"],
}
NODES = {
    "num": [
        "({num} + {num})",
        "({num} - {num})",
        "({exact} * {exact1})",
        "(f / {num})",
        "({num} / kf)",
        "-{num}",
        "abs({num})",
        "CASE WHEN {bool} THEN {num} ELSE {num} END",
        "coalesce({num}, {num})",
        "least({num}, {num})",
        "nullif({num}, {num})",
        "if({bool}, {num})",
        "length({text})",
        "hour({time})",
        "day_of_week({time})",
        "date_diff('hour', {time}, {time})",
    ],
    "exact": [
        "({exact1} + {exact1})",
        "-{exact1}",
        "abs({exact1})",
        "coalesce({exact1}, 0)",
        "length({text})",
        "round({exact1}, 1)",
    ],
    "exact1": ["i", "ki", "m", "3", "0.5", "CASE WHEN {bool} THEN i ELSE m END"],
    "bool": [
        "({num} > {num})",
        "({num} = {num})",
        "({num} <= {num})",
        "({bool} AND {bool})",
        "({bool} OR {bool})",
        "(NOT {bool})",
        "({num} IS NULL)",
        "({bool} IS TRUE)",
        "({num} IN (1, {num}, 2.5))",
        "({text} = {text})",
        "({text} < {text})",
        "({text} LIKE '%a%')",
        "({text} IN TABLE(blocked))",
        "({num} IS DISTINCT FROM {num})",
        "({time} >= {time})",
        "({num} BETWEEN {num} AND {num})",
        "({time} - {time} > INTERVAL '90' MINUTES)",
    ],
    "text": [
        "({text} || {text})",
        "lower({text})",
        "CASE WHEN {bool} THEN {text} END",
        "coalesce({text}, {text})",
        "concat({text}, s)",
        "substr({text}, 2, 2)",
        "replace({text}, 'a', 'b')",
        "greatest({text}, {text})",
        "CAST(({bool}) AS string)",
    ],
    "time": [
        "({time} + INTERVAL '36' HOURS)",
        "date_trunc('day', {time})",
        "coalesce({time}, {time})",
        "CASE WHEN {bool} THEN {time} ELSE {time} END",
        "greatest({time}, {time})",
    ],
}


@st.composite
def tree(draw: st.DrawFn, kind: str, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(LEAVES.get(kind) or NODES[kind][:5]))
    text = draw(st.sampled_from(NODES[kind]))
    while "{" in text:
        start, end = text.index("{"), text.index("}")
        text = text[:start] + draw(tree(text[start + 1 : end], depth - 1)) + text[end + 1 :]
    return text


def typed(text: str) -> bool:
    """Whether it compiles: a NULL alone, or a table's key of no type, does not."""
    try:
        compiled(text)
    except ConfigError:
        return False
    return True


@settings(parent=QUIET, max_examples=150)
@given(
    data=rows(), texts=st.lists(st.sampled_from(["num", "bool", "text", "time"]).flatmap(tree), min_size=1, max_size=6)
)
def test_trees_of_operators(reference: Reference, data: list[Row], texts: list[str]) -> None:
    known = [text for text in texts if typed(text) and not reference.is_full(text, data)]
    assume(known)
    check(reference, known, data)


@QUIET
@given(data=rows(), cut=st.integers(0, 12), group=st.sampled_from(sorted(TEMPLATES)))
def test_the_same_wherever_batches_are_cut(data: list[Row], cut: int, group: str) -> None:
    texts = expressions(group)
    whole = ours(texts, data)
    parts = [ours(texts, part) for part in (data[:cut], data[cut:]) if part]
    joined = [[value for part in parts for value in part[n]] for n in range(len(texts))]
    assert list(map(repr, whole)) == list(map(repr, joined))  # to the last bit


@pytest.mark.parametrize("step", [2, 3])
def test_the_same_in_strided_columns_and_long_batches(step: int) -> None:
    """numpy may take another code path for strides, for tails and for long arrays: bits must not differ."""
    random = np.random.default_rng(5)
    wide = {name: random.uniform(-80, 80, 999 * step) for name in ("f", "g", "kf")}
    texts = [
        "distance_km(f, g, kf, 3)",
        "exp(f)",
        "ln(f)",
        "log10(f)",
        "power(f, g)",
        "sqrt(f)",
        "round(f, 2)",
        "f / g",
        "f % g",
    ]

    def run(values: dict[str, np.ndarray[Any, Any]]) -> list[list[Any]]:
        size = len(values["f"])
        columns = {name: Column(FLOAT, array) for name, array in values.items()}
        times = np.zeros(size, np.int64)
        batch = Batch(size=size, tasks=(), event_time=times, keys=[""] * size, columns=columns)
        operator_of(texts).process(batch, None)  # type: ignore[arg-type]
        return [plain(batch.columns[f"out{n}"]) for n in range(len(texts))]

    strided = run({name: array[::step] for name, array in wide.items()})
    ones = [run({name: array[n * step : n * step + 1] for name, array in wide.items()}) for n in range(999)]
    for n, text in enumerate(texts):
        assert repr(strided[n]) == repr([one[n][0] for one in ones]), text
