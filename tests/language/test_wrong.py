"""The corpus in `wrong/`: each wrong pipeline is answered by its place, what is wrong, and what would be right.

NAME.yaml is a wrong pipeline, NAME.expected its answers in order: `line:column: words | words ...`, all of which the
answer says. The places were decided by reading the file. Those in `right/` are what they were made from.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamproc.cli.errors import LONGEST
from streamproc.cli.main import run_command

CORPUS = Path(__file__).parent / "wrong"
WRONG = sorted(path.with_suffix("") for path in CORPUS.rglob("*.expected"))
CASES_MIN = 300


def name(path: Path) -> str:
    return str(path.relative_to(CORPUS))


@pytest.mark.parametrize("path", WRONG, ids=name)
def test_a_wrong_pipeline_is_answered(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [line.partition(": ") for line in path.with_suffix(".expected").read_text().splitlines()]
    code = run_command(["validate", f"{path}.yaml"])
    out, err = capsys.readouterr()
    answers = [re.fullmatch(r"error: .*?([^/]+\.yaml):(\d+:\d+): (.+)", line) for line in err.splitlines()]
    assert (code, out) == (2, "")
    found = [(answer[1], answer[2]) if answer else None for answer in answers]
    assert found == [(f"{path.name}.yaml", place) for place, _, _ in expected], err
    for answer, (_, _, words) in zip(answers, expected, strict=True):
        assert answer is not None
        assert [word for word in words.split(" | ") if word not in answer[3]] == [], err
        assert len(answer[0]) < LONGEST + 10


def test_there_are_many() -> None:
    assert len(WRONG) >= CASES_MIN
    assert all(path.with_suffix(".yaml").exists() for path in WRONG)


@pytest.mark.parametrize("base", ["cards", "full", "timed", "chain", "database"])
def test_what_they_were_made_from_is_right(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", str(CORPUS / "right" / f"{base}.yaml")]) == 0, capsys.readouterr().err
