"""docs/cli.md says what the commands are, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import COMMANDS

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part for part in TEXT.split("\n## ")[1:]}


def options(name: str) -> set[str]:
    parameters = COMMANDS[name].params
    return {
        option for p in parameters for option in p.opts if option.startswith("--") and not getattr(p, "hidden", False)
    }


def test_every_command_has_its_section() -> None:
    assert list(SECTIONS) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_names_the_very_options(name: str) -> None:
    assert set(re.findall(r"--[a-z][a-z-]*", SECTIONS[name])) == options(name) - {"--help"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_shows_the_examples_of_help(name: str) -> None:
    shown = {line.strip() for line in SECTIONS[name].splitlines() if line.startswith("    streamproc")}
    epilog = COMMANDS[name].epilog
    assert epilog is not None
    assert {line.strip() for line in epilog.splitlines()[2:]} <= shown
