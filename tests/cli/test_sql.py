"""`streamproc sql`: files in, NDJSON out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

DAY = "event_time,a\n2026-05-01T00:00:00Z,1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.sql").write_text("SELECT a FROM t; SELECT a + 1 AS b FROM u;\n")
    (tmp_path / "t1.csv").write_text(DAY)
    (tmp_path / "t2.csv").write_text(DAY.replace("1\n", "2\n"))
    (tmp_path / "u.ndjson").write_text('{"a": 10}\n')
    return tmp_path


@pytest.mark.parametrize("output", [[], ["--output", "-"], ["--output", "{dir}/o.ndjson"]])
def test_files_of_tables_in_rows_out(output: list[str], folder: Path, cli: Cli) -> None:
    words = ["--input", f"t={folder}/t1.csv", f"{folder}/t2.csv", f"u={folder}/u.ndjson"]
    done = cli("sql", f"{folder}/q.sql", *words, *(word.format(dir=folder) for word in output))
    assert done.code == 0, done.err
    text = (folder / "o.ndjson").read_text() if "{dir}/o.ndjson" in output else done.out
    assert [json.loads(line) for line in text.splitlines()] == [{"a": 1}, {"a": 2}, {"b": 11}]


def test_a_file_that_is_not_written_whole_is_not_there(folder: Path, cli: Cli) -> None:
    (folder / "q.sql").write_text("SELECT a FROM t; SELECT a * 9223372036854775807 AS b FROM u")
    done = cli(
        "sql", f"{folder}/q.sql", "--input", f"t={folder}/t1.csv", f"u={folder}/u.ndjson", "--output", f"{folder}/o"
    )
    assert done.code == 2
    assert done.err == f"error: {folder}/q.sql:1:25: a number is too large, in b, in row 1 of u\n"
    assert sorted(path.name for path in folder.iterdir()) == ["q.sql", "t1.csv", "t2.csv", "u.ndjson"]


@pytest.mark.parametrize("taken", ["t1.csv", "t2.csv", "u.ndjson", "q.sql"])
@pytest.mark.parametrize("way", ["name", "detour", "symlink", "hard link"])
def test_what_is_read_is_not_written(taken: str, way: str, folder: Path, cli: Cli) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "s").mkdir()
    output = folder / {"name": taken, "detour": f"s/../{taken}"}.get(way, "o.ndjson")
    if way == "symlink":
        output.symlink_to(folder / taken)
    elif way == "hard link":
        output.hardlink_to(folder / taken)
    words = ["--input", f"t={folder}/t1.csv", f"{folder}/t2.csv", f"u={folder}/u.ndjson"]
    done = cli("sql", f"{folder}/q.sql", *words, "--output", str(output))
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert done.code == 2
    assert done.err == f"error: --output {output} is {folder / taken}, which is read (name another file)\n"


def test_a_file_of_before_is_replaced(folder: Path, cli: Cli) -> None:
    (folder / "o.ndjson").write_text("old\n")
    words = ["--input", f"t={folder}/t1.csv", f"u={folder}/u.ndjson", "--output", f"{folder}/o.ndjson"]
    assert cli("sql", f"{folder}/q.sql", *words).code == 0
    assert (folder / "o.ndjson").read_text() == '{"a":1}\n{"b":11}\n'


def test_files_of_a_table_must_agree(folder: Path, cli: Cli) -> None:
    words = ["--input", f"t={folder}/t1.csv", f"u={folder}/u.ndjson", f"{folder}/u.csv"]
    (folder / "u.csv").write_text("a\nx\n")
    done = cli("sql", f"{folder}/q.sql", *words)
    assert done.code == 2
    said = f"the files of u do not agree on a: int64 in {folder}/u.ndjson, string in {folder}/u.csv"
    assert done.err == f"error: {said} (CREATE TABLE u says its type)\n"


@pytest.mark.parametrize(("name", "said"), [("payment", True), ("payments", False), ("flagged", False)])
def test_a_declared_table_without_a_file_may_be_misspelt(name: str, said: bool, folder: Path, cli: Cli) -> None:
    (folder / "q.sql").write_text(f"CREATE TABLE {name} (a DECIMAL(10, 2)); SELECT a FROM payments")
    done = cli("sql", f"{folder}/q.sql", "--input", f"payments={folder}/u.ndjson")
    assert done.code == 0, done.err
    warned = f"{folder}/q.sql:1:1: there is no --input {name}=FILE (did you mean payments?)"
    assert (warned in done.err) == said


def test_a_query_is_wanted(folder: Path, cli: Cli) -> None:
    (folder / "q.sql").write_text("CREATE TABLE t (a INT);")
    done = cli("sql", f"{folder}/q.sql", "--input", f"t={folder}/t1.csv")
    assert done.code == 2
    assert "q.sql has no query (CREATE TABLE only declares an input: add a SELECT)" in done.err


def test_a_pattern_without_within_is_warned_of_once(folder: Path, cli: Cli) -> None:
    (folder / "q.sql").write_text("""
WITH pairs AS (SELECT * FROM t
    MATCH_RECOGNIZE (ORDER BY event_time MEASURES A.a AS first, B.a AS second PATTERN (A B)))
SELECT p.first, q.second FROM pairs AS p JOIN pairs AS q ON p.first = q.first;
""")
    done = cli("sql", f"{folder}/q.sql", "--input", f"t={folder}/t1.csv", f"{folder}/t2.csv")
    assert done.code == 0, done.err
    assert done.lines == ['{"first":1,"second":2}']
    assert done.err.count("warning: ") == 1
    assert f"warning: {folder}/q.sql:3:5: MATCH_RECOGNIZE without WITHIN" in done.err
