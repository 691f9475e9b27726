"""The same expression in DuckDB's SQL: the independent reference of the tests."""

from __future__ import annotations

__all__ = ["duckdb_sql"]

from streamproc.language.expression.parse import Expr


def duckdb_sql(expr: Expr, event_time: str = "event_time") -> str:
    """`expr` as DuckDB SQL; `event_time` is the column that holds the row's event time.

    Tables are DuckDB tables of the same name with their key column called `key`.
    """
    raise NotImplementedError
