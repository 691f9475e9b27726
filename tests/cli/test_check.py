"""`streamproc check`: one line a check, the fewest rows that fail, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.checks import CHECKS
from tests.cli.conftest import Cli

OPERATORS = Path(__file__).parents[1] / "operators"
GOOD, BROKEN = OPERATORS / "event_operators.py", OPERATORS / "broken_operators.py"
PLAIN = """
from operators.event_operator import INT64, STRING, EventOperator, InputField, OutputField

class Untyped(EventOperator):
    inputs = ("number",)
    outputs = (OutputField("n", INT64),)

    def __init__(self, factor=1, names=()):
        assert type(factor) is int and list(names) == ["x"] * len(names)
        self.factor = factor

    def on_event(self, event, state):
        return (None if event["number"] is None else self.factor * event["number"],)

class Hashing(EventOperator):
    inputs = (InputField("name", STRING),)
    outputs = (OutputField("hash", INT64),)

    def on_event(self, event, state):
        return (hash(event["name"] or ""),)
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.py"
    path.write_text(PLAIN)
    return path


def test_a_line_a_check(cli: Cli) -> None:
    outcome = cli("check", f"{GOOD}:Habits")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.lines == [f"ok      {name}" for name in [*CHECKS, "hash-seeds"]]


def test_a_failed_check(cli: Cli) -> None:
    outcome = cli("check", f"{BROKEN}:ForEver")
    assert outcome.code == 1
    failed = [line for line in outcome.lines if line.startswith("failed")]
    assert len(failed) == 1
    assert failed[0].startswith("failed  ttl: with history that expired")
    assert outcome.err.startswith("ttl fails with\ntask  event_time     card_id")
    assert outcome.err.count("\n") == 3


def test_another_hash_seed(cli: Cli, plain: Path) -> None:
    outcome = cli("check", f"{plain}:Hashing")
    assert outcome.code == 1
    assert [line.split(":")[0] for line in outcome.lines if line.startswith("failed")] == ["failed  hash-seeds"]


def test_options_and_types(cli: Cli, plain: Path) -> None:
    given = ["--option", "factor=3", "--option", 'names=["x"]', "--input", "number=int64"]
    outcome = cli("check", f"{plain}:Untyped", *given)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.lines[-1] == "ok      hash-seeds"


def test_a_type_that_nobody_says(cli: Cli, plain: Path) -> None:
    outcome = cli("check", f"{plain}:Untyped")
    assert outcome.code == 1
    assert outcome.lines[0].startswith("failed  declaration: the type of the input number is not known")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{file}:Hashin"], "{file}: there is no class Hashin in plain.py (did you mean Hashing?)"),
        (["{file}:STRING"], "STRING is not an Operator"),
        (["{dir}/none.py:Hashing"], "there is no file none.py"),
        (["Hashing"], "does not name an operator"),
        (["no_such_package.ops:Hashing"], "no_such_package.ops cannot be imported"),
        (["{file}:Untyped", "--option", "factr=3"], "unexpected keyword argument 'factr'"),
        (["{file}:Untyped", "--option", "factor"], "--option factor: there is no ="),
        (["{file}:Untyped", "--input", "number=int"], "did you mean int64?"),
        (
            ["{file}:Untyped", "--option", "factor=3", "--input", "foo=string"],
            "--input foo: Untyped has no such input (there is only number)",
        ),
        ([], "Missing argument 'FILE.py:OPERATOR'"),
    ],
)
def test_wrong_use(cli: Cli, plain: Path, arguments: list[str], said: str) -> None:
    outcome = cli("check", *(argument.format(file=plain, dir=plain.parent) for argument in arguments))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert said.format(file=plain) in outcome.err
    assert outcome.err.count("\n") == 1
