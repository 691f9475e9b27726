"""docs/language/tables.md: its files are written, its commands run, its Python executed, its output compared."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from state.errors import ConfigError
from streamproc.language import compile_pipeline, load_pipeline
from tests.docs.test_tutorial import ROOT, blocks, execute, shell

PAGE = ROOT / "docs" / "language" / "tables.md"


def files(folder: Path) -> None:
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            (folder / block.options["file"]).write_text(block.text)


@pytest.mark.timeout(120)
def test_the_example_runs(tmp_path: Path) -> None:
    files(tmp_path)
    shown = ""
    ran = []
    for block in blocks(PAGE.read_text()):
        if block.language == "sh":
            shown = shell(block, tmp_path)
        elif block.language == "python":
            done = execute([sys.executable, "-c", block.text], tmp_path)
            assert done.returncode == 0, f"line {block.line}: {done.stderr}"
        elif block.language == "text":
            assert block.text == shown
        ran.append(block.language)
    assert ran == ["yaml", "csv", "csv", "csv", "sh", "python", "sh", "text"]


def test_the_errors_are_those_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    for file, old, new in (
        ("bad_networks.csv", "203.0.113.77,", "203.0.113.77/24,"),
        ("bins.csv", "1000.00,,2026-06-01", "1000.00,,2026-06-02"),
    ):
        text = Path(file).read_text()
        assert text.count(old) == 1
        Path(file).write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        compile_pipeline(load_pipeline("shop.yaml"))
    written = re.findall(r"^    error: (.*)$", PAGE.read_text(), re.MULTILINE)
    assert str(caught.value).splitlines() == written
