"""The corpus in `wrong/`: each wrong file is answered by its place, what is wrong, and what would be right.

NAME.yaml is a wrong pipeline, or NAME.sql a file of wrong statements; NAME.expected its answers in order:
`line:column: words | words ...`, all of which the answer says. The places were decided by reading the file. Those in
`right/` are what the pipelines were made from. They are asked in this process, as `streamproc` would, some by a
command of their own.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from streamproc.cli.errors import LONGEST
from streamproc.cli.main import run_command
from tests.processes import run
from tests.sql.support import changes, payments, write

CORPUS = Path(__file__).parent / "wrong"
ROOT = CORPUS.parents[2]
WRONG = sorted(path.with_suffix("") for path in CORPUS.rglob("*.expected"))
PIPELINES = [path for path in WRONG if path.parent.name != "sql"]
STATEMENTS = [path for path in WRONG if path.parent.name == "sql"]
PIPELINES_MIN, STATEMENTS_MIN = 440, 80
BY_COMMAND = ["yaml/alias_bomb", "patterns/bomb_of_counts", "parallel/key_typo", "keys/chain_stages", "sql/drop"]


def name(path: Path) -> str:
    return str(path.relative_to(CORPUS))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What wrong statements are run over."""
    folder = tmp_path_factory.mktemp("tables")
    files = {"payments": write(folder, "payments", payments(20)), "changes": write(folder, "changes", changes(5))}
    return ["--input", *(f"{table}={path}" for table, path in files.items())]


def words(path: Path, inputs: list[str]) -> list[str]:
    """The command that finds out."""
    return ["sql", f"{path}.sql", *inputs] if path in STATEMENTS else ["validate", f"{path}.yaml"]


def check(path: Path, code: int, out: str, err: str) -> None:
    """It was answered as it should be."""
    expected = [line.partition(": ") for line in path.with_suffix(".expected").read_text().splitlines()]
    suffix = ".sql" if path in STATEMENTS else ".yaml"
    answers = [re.fullmatch(rf"error: .*?([^/]+\{suffix}):(\d+:\d+): (.+)", line) for line in err.splitlines()]
    assert (code, out) == (2, "")
    found = [(answer[1], answer[2]) if answer else None for answer in answers]
    assert found == [(f"{path.name}{suffix}", place) for place, _, _ in expected], err
    for answer, (_, _, wanted) in zip(answers, expected, strict=True):
        assert answer is not None
        assert [word for word in wanted.split(" | ") if word not in answer[3]] == [], err
        assert len(answer[0]) < LONGEST + 10


@pytest.mark.parametrize("path", PIPELINES, ids=name)
def test_a_wrong_pipeline_is_answered(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(path, run_command(words(path, [])), *capsys.readouterr())


@pytest.mark.parametrize("path", STATEMENTS, ids=name)
def test_a_wrong_statement_is_answered(path: Path, inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    check(path, run_command(words(path, inputs)), *capsys.readouterr())


@pytest.mark.parametrize("case", BY_COMMAND)
def test_so_it_is_by_the_command_line(case: str, inputs: list[str]) -> None:
    path = CORPUS / case
    command = [sys.executable, "-m", "streamproc.cli.main", *words(path, inputs)]
    done = run(command, cwd=ROOT)
    check(path, done.returncode, done.stdout, done.stderr)


def test_there_are_many() -> None:
    assert len(PIPELINES) >= PIPELINES_MIN
    assert len(STATEMENTS) >= STATEMENTS_MIN
    assert all(path.with_suffix(".sql" if path in STATEMENTS else ".yaml").exists() for path in WRONG)


@pytest.mark.parametrize("base", ["cards", "full", "timed", "chain", "database", "patterns", "parallel"])
def test_what_they_were_made_from_is_right(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", str(CORPUS / "right" / f"{base}.yaml")]) == 0, capsys.readouterr().err
