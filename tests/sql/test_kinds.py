"""Files of several kinds as one table: each kind has its types, and the kinds must agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.sql.support import Row, agree, ours, reader, refusal, stamp, write

KINDS = ("csv", "ndjson", "parquet")
Files = Sequence[Path]
BOTH = [(one, other) for one in KINDS for other in KINDS]
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "whole numbers": ([1, None, 3], [4, 5]),
    "fractions": ([1.5, None], [2.0, -0.25]),
    "bools": ([True, None], [False]),
    "texts": (["x", None], ["y", "007"]),
    "times": ([stamp(1), None], [stamp(2)]),
    "nothing in the first": ([None, None], [1, 2]),
    "nothing in the second": ([1.5, 2], [None]),
    "nothing at all": ([None], [None, None]),
}


def files(folder: Path, kinds: Sequence[str], values: Sequence[Sequence[Any]], name: str = "a") -> Files:
    """A file of each kind, which has rows in one way or the other."""
    each = zip(kinds, values, strict=True)
    return [
        write(folder, f"f{n}", [{"n": n, name: one} for one in column], kind) for n, (kind, column) in enumerate(each)
    ]


def theirs(paths: Files, kind: str) -> list[Row]:
    """DuckDB's rows of all files, whose column `a` has that type."""
    each = " UNION ALL ".join(f"SELECT n, CAST(a AS {kind}) AS a FROM {reader(path)}" for path in paths)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(f"SELECT n, {_shown(kind)} AS a FROM ({each})").fetchall()
    return [{"n": n, "a": a} for n, a in found]


def _shown(kind: str) -> str:
    return "strftime(a, '%Y-%m-%dT%H:%M:%S.%gZ')" if kind == "TIMESTAMP" else "a"


TYPES = {"whole numbers": "BIGINT", "fractions": "DOUBLE", "bools": "BOOLEAN", "texts": "VARCHAR", "times": "TIMESTAMP"}
TYPES |= {"nothing in the first": "BIGINT", "nothing in the second": "DOUBLE", "nothing at all": "VARCHAR"}


# A column of Parquet has a type, with values or without.
CASES = [(case, kinds) for case in VALUES for kinds in BOTH if not ("nothing" in case and "parquet" in kinds)]


@pytest.mark.parametrize(("case", "kinds"), CASES)
def test_files_of_equal_types_are_one_table(case: str, kinds: tuple[str, str], tmp_path: Path) -> None:
    paths = files(tmp_path, kinds, VALUES[case])
    found = ours("SELECT n, a FROM t", {"t": paths})
    assert [row["n"] for row in found] == [n for n, column in enumerate(VALUES[case]) for _ in column]
    agree(found, theirs(paths, TYPES[case]))


@pytest.mark.parametrize("kinds", BOTH, ids="-".join)
def test_what_a_file_lacks_is_null(kinds: tuple[str, str], tmp_path: Path) -> None:
    paths = [
        write(tmp_path, "1", [{"n": 1, "a": 1.5}], kinds[0]),
        write(tmp_path, "2", [{"n": 2, "b": "x"}], kinds[1]),
    ]
    assert ours("SELECT * FROM t", {"t": paths}) == [{"n": 1, "a": 1.5, "b": None}, {"n": 2, "a": None, "b": "x"}]


def test_files_of_one_kind_are_looked_at_together(tmp_path: Path) -> None:
    paths = files(tmp_path, ["csv", "ndjson", "csv", "ndjson"], [[1], [2], [3.5], [4.5]])
    assert [row["a"] for row in ours("SELECT a FROM t", {"t": paths})] == [1.0, 2.0, 3.5, 4.5]


DIFFERENT: dict[str, tuple[tuple[str, str], tuple[list[Any], list[Any]], tuple[str, str]]] = {
    "a number and a text": (("csv", "ndjson"), ([1], ["1"]), ("int64", "string")),
    "a whole one and a fraction": (("ndjson", "csv"), ([1], [1.5]), ("int64", "float64")),
    "a bool and a number": (("csv", "parquet"), ([True], [1]), ("bool", "int64")),
    "a time and a text": (("parquet", "parquet"), ([stamp(1)], ["x"]), ("timestamp", "string")),
}


@pytest.mark.parametrize("case", DIFFERENT.values(), ids=DIFFERENT)
def test_types_that_differ_are_named(case: tuple[Any, Any, tuple[str, str]], tmp_path: Path) -> None:
    kinds, values, types = case
    one, other = files(tmp_path, kinds, values)
    said = (
        f"the files of t do not agree on a: {types[0]} in {one}, {types[1]} in {other} (CREATE TABLE t says its type)"
    )
    assert refusal("SELECT n FROM t", {"t": [one, other]}) == said


def test_an_empty_text_is_null_in_a_csv_beside_ndjson_too(tmp_path: Path) -> None:
    paths = [tmp_path / "1.csv", tmp_path / "2.ndjson"]
    paths[0].write_text("id,a\n1,\n")
    paths[1].write_text('{"id":2,"a":""}\n')
    assert [row["a"] for row in ours("SELECT a FROM t", {"t": paths})] == [None, ""]
    declared = "CREATE TABLE t (id INT, a INT); SELECT a FROM t"
    assert refusal(declared, {"t": paths}) == f"q.sql:1:25: a is no int64 in {paths[1]}:1"
