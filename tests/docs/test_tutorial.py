"""docs/tutorial-operator.md: its files are written, its commands run, its Python executed, its outputs compared."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import run

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial-operator.md"
ON_MANY_PAGES = frozenset({"feed", "run", "tail", "backtest", "test"})
"""Commands that are started anew for the tutorial, and for other pages forked (tests/processes.py)."""


class Block(NamedTuple):
    language: str
    options: dict[str, str]
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    """Fenced blocks; what stands after the language is `name=value`."""
    found = []
    for match in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        options = dict(word.split("=", 1) for word in match[2].split())
        found.append(Block(match[1], options, match[3], text[: match.start()].count("\n") + 1))
    return found


def execute(words: list[str], folder: Path, *, forked: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    if forked:
        return run(words, cwd=folder, env=environment)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def shell(block: Block, folder: Path, forked: frozenset[str] = ON_MANY_PAGES) -> str:
    """Run each line, with some commands forked; the last one ends as the block says, all others with 0."""
    out = ""
    lines = block.text.splitlines()
    for number, line in enumerate(lines):
        program, *arguments = shlex.split(line)
        assert program == "streamproc"
        words = [sys.executable, "-m", "streamproc.cli.main", *arguments]
        done = execute(words, folder, forked=arguments[0] in forked)
        wanted = int(block.options.get("exit", 0)) if number == len(lines) - 1 else 0
        assert done.returncode == wanted, f"line {block.line}: {line}\n{done.stdout}{done.stderr}"
        out += done.stdout
    return out


@pytest.mark.timeout(180)
def test_the_tutorial_runs(tmp_path: Path) -> None:
    shown = ""
    for block in blocks(TUTORIAL.read_text()):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "sh":
            shown = shell(block, tmp_path, forked=frozenset())
        elif block.language == "python":
            done = execute([sys.executable, "-c", block.text], tmp_path)
            assert done.returncode == 0, f"line {block.line}: {done.stderr}"
        else:
            assert block.language == "text", block
            missing = [line for line in block.text.splitlines() if line not in shown.splitlines()]
            assert missing == [], f"line {block.line}: not in\n{shown}"


def test_excerpts_are_called_so() -> None:
    text = TUTORIAL.read_text()
    for shown in [block for block in blocks(text) if block.language == "text"][1:]:
        before = text.splitlines()[shown.line - 3]
        assert before.endswith(":"), f"line {shown.line}: {before}"


def test_the_tutorial_is_what_it_says() -> None:
    found = blocks(TUTORIAL.read_text())
    assert {block.language for block in found} == {"python", "sh", "text", "yaml", "csv"}
    assert TUTORIAL.read_text().count("```") == 2 * len(found)
    commands = {line.split()[1] for block in found if block.language == "sh" for line in block.text.splitlines()}
    assert commands == {"check", "validate", "backtest", "feed", "run", "tail"}
