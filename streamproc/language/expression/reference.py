"""The same expression in DuckDB's SQL: the independent reference of the tests.

sqlglot transpiles it; only the written exceptions (docs/language/expressions.md) are spelled out, in `PRELUDE`'s macros
and in the functions' templates.
"""

from __future__ import annotations

__all__ = ["PRELUDE", "duckdb_sql"]

from collections.abc import Callable
from typing import Any, ClassVar, Final

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.generators.duckdb import DuckDBGenerator

from streamproc.language.expression.functions import FUNCTIONS
from streamproc.language.expression.parse import Expr, dotted_name
from streamproc.language.expression.time_calls import part_name

PRELUDE: Final = """
SET TimeZone = 'UTC';
CREATE MACRO finite(x) AS CASE WHEN isfinite(x) THEN x END;
CREATE MACRO unit_ms(unit) AS CASE unit WHEN 'millisecond' THEN 1 WHEN 'second' THEN 1000 WHEN 'minute' THEN 60000
    WHEN 'hour' THEN 3600000 WHEN 'day' THEN 86400000 WHEN 'week' THEN 604800000 END;
CREATE MACRO cut(x) AS CASE WHEN typeof(x) = 'DOUBLE' THEN CAST(trunc(CAST(x AS DOUBLE)) AS BIGINT)
    WHEN typeof(x) LIKE 'DECIMAL%' THEN CAST(trunc(CAST(x AS DECIMAL(38, 15))) AS BIGINT) ELSE CAST(x AS BIGINT) END;
CREATE MACRO try_cut(x) AS CASE WHEN typeof(x) = 'DOUBLE' THEN TRY_CAST(trunc(TRY_CAST(x AS DOUBLE)) AS BIGINT)
    WHEN typeof(x) LIKE 'DECIMAL%' THEN TRY_CAST(trunc(TRY_CAST(x AS DECIMAL(38, 15))) AS BIGINT)
    ELSE TRY_CAST(x AS BIGINT) END;
CREATE MACRO strftime_pattern(p) AS replace(replace(replace(replace(replace(replace(replace(p,
    'SSS', '%g'), 'yyyy', '%Y'), 'MM', '%m'), 'dd', '%d'), 'HH', '%H'), 'mm', '%M'), 'ss', '%S');
CREATE MACRO unit_months(unit) AS CASE unit WHEN 'month' THEN 1 WHEN 'quarter' THEN 3 WHEN 'year' THEN 12 END;
CREATE MACRO time_later(unit, n, t) AS t + to_months((n * coalesce(unit_months(unit), 0))::INTEGER)
    + to_milliseconds(n * coalesce(unit_ms(unit), 0));
CREATE MACRO parsed_time(s) AS TRY_CAST(s AS TIMESTAMP), (s, p) AS try_strptime(s, p);
CREATE MACRO epoch_time(n) AS make_timestamp_ms(n), (n, d) AS make_timestamp_ms(n * if(d = 0, 1000, 1));
CREATE MACRO unix_text(n) AS strftime(make_timestamp_ms(n * 1000), '%Y-%m-%d %H:%M:%S'),
    (n, p) AS strftime(make_timestamp_ms(n * 1000), strftime_pattern(p));
CREATE MACRO logarithm(x) AS if(x > 0, ln(x), NULL), (b, x) AS if(b > 0 AND x > 0, finite(ln(x) / ln(b)), NULL);
CREATE MACRO overlaid(s, r, a) AS CASE WHEN r IS NULL OR a IS NULL THEN NULL
    WHEN a < 1 OR a > length(s) THEN s ELSE s[:a - 1] || r || s[a + length(r):] END,
    (s, r, a, n) AS CASE WHEN r IS NULL OR a IS NULL OR n IS NULL THEN NULL
    WHEN a < 1 OR a > length(s) THEN s ELSE s[:a - 1] || r || s[a + greatest(n, 0):] END;
CREATE MACRO located(part, s) AS strpos(s, part), (part, s, a) AS CASE WHEN s IS NULL OR a IS NULL THEN NULL
    WHEN part = '' THEN 1 WHEN strpos(s[greatest(a, 1):], part) = 0 THEN 0
    ELSE strpos(s[greatest(a, 1):], part) + greatest(a, 1) - 1 END;
CREATE MACRO at_most_one(x) AS CASE WHEN x > 1 THEN 1::DOUBLE ELSE x END;
CREATE MACRO distance_km(lat1, lon1, lat2, lon2) AS finite(2 * 6371.0::DOUBLE * asin(at_most_one(sqrt(
    pow(sin(radians(lat2 - lat1) / 2), 2)
    + cos(radians(lat1)) * cos(radians(lat2)) * pow(sin(radians(lon2 - lon1) / 2), 2)
))));
"""

_READS: Final = {"to_timestamp", "to_date", "unix_timestamp"}


def duckdb_sql(expr: Expr, event_time: str = "event_time") -> str:
    """`expr` as DuckDB SQL; `event_time` is the column that holds the row's event time.

    The connection must have run `PRELUDE`. Tables are DuckDB tables of the same name, their key column called `key`.
    """
    return _Generator(dialect=_Reference, identify=True, comments=False, now=event_time).generate(expr.ast.copy())


class _Generator(DuckDBGenerator):
    """DuckDB's SQL, with our calls and our exceptions."""

    TRANSFORMS: ClassVar[dict[type[exp.Expr], Callable[..., str]]] = {
        **DuckDBGenerator.TRANSFORMS,
        exp.Anonymous: lambda self, node: self.our_call(node),
        exp.Column: lambda self, node: _quoted(dotted_name(node) or "*"),
        exp.Dot: lambda self, node: self.our_dot(node),
        exp.Div: lambda self, node: f"finite({self.sql(node, 'this')} / ({self.sql(node, 'expression')}))",
        exp.Mod: lambda self, node: self.our_template("mod", node.this, node.expression),
        exp.In: lambda self, node: self.our_in(node),
        exp.Cast: lambda self, node: self.our_cast("CAST", node),
        exp.TryCast: lambda self, node: self.our_cast("TRY_CAST", node),
        exp.Extract: lambda self, node: self.our_template(part_name(node.name), node.expression),
        exp.Interval: lambda self, node: f"INTERVAL '{node.this.name}' {node.args['unit'].name}",
        exp.Var: lambda self, node: f"'{node.name}'",
    }

    def __init__(self, now: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._now = _quoted(now)

    def our_template(self, name: str, *args: exp.Expr) -> str:
        """A function of the registry."""
        texts = [self.sql(arg) for arg in args]
        if name == "if" and len(texts) == 2:
            texts.append("NULL")
        if name in _READS and len(texts) > 1:
            texts[1] = f"strftime_pattern({texts[1]})"
        grouped = [f"({text})" for text in texts]
        return FUNCTIONS[name].duckdb.format(*grouped, all=", ".join(texts), now=self._now)

    def our_call(self, node: exp.Anonymous) -> str:
        """A call."""
        return self.our_template(node.name.lower(), *node.expressions)

    def our_dot(self, node: exp.Dot) -> str:
        """A dotted column, or table(name, key).column."""
        name = dotted_name(node)
        if name is not None:
            return _quoted(name)
        table, key = node.this.expressions
        return f"(SELECT {_quoted(node.expression.name)} FROM {_quoted(table.name)} WHERE key = {self.sql(key)})"  # noqa: S608  for tests

    def our_in(self, node: exp.In) -> str:
        """IN a list or a table."""
        field = node.args.get("field")
        if field is None:
            return f"{self.sql(node, 'this')} IN ({', '.join(self.sql(item) for item in node.expressions)})"
        return f"{self.sql(node, 'this')} IN (SELECT key FROM {_quoted(field.expressions[0].name)})"  # noqa: S608  for tests

    def our_cast(self, word: str, node: exp.Cast) -> str:
        """A cast; decimal(n) has n decimals here."""
        to = node.args["to"]
        if to.this in {exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT}:
            return f"{word}({'cut' if word == 'CAST' else 'try_cut'}({self.sql(node, 'this')}) AS {to.sql(DuckDB)})"
        if to.this == exp.DType.VARCHAR and to.expressions:
            return f"left({word}({self.sql(node, 'this')} AS VARCHAR), {to.expressions[0].name})"
        if to.this == exp.DType.DATE:
            return f"CAST({word}({self.sql(node, 'this')} AS DATE) AS TIMESTAMP)"
        name = "TIMESTAMP" if to.this == exp.DType.TIMESTAMPTZ else to.sql(DuckDB)
        if to.this == exp.DType.DECIMAL and len(to.expressions) == 1:
            name = f"DECIMAL(18, {to.expressions[-1].name})"
        return f"{word}({self.sql(node, 'this')} AS {name})"


class _Reference(DuckDB):
    """DuckDB's dialect with our generator."""

    Generator = _Generator  # type: ignore[assignment]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
