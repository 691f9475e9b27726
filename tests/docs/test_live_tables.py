"""docs/language/live-tables.md: its files are written, its commands run, its outputs compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from state.errors import ConfigError
from streamproc.language import compile_pipeline, load_pipeline
from tests.docs.test_tutorial import ROOT, blocks, shell

PAGE = ROOT / "docs" / "language" / "live-tables.md"


@pytest.mark.timeout(120)
def test_the_example_runs(tmp_path: Path) -> None:
    ran, shown = [], ""
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "sh":
            shown = shell(block, tmp_path)
        else:
            assert sorted(block.text.splitlines()) == sorted(shown.splitlines())
        ran.append(block.language)
    assert ran == ["yaml", "csv", "csv", "sh", "json", "json", "sh", "json"]


def test_the_error_is_the_one_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            Path(block.options["file"]).write_text(block.text)
    text = Path("shop.yaml").read_text()
    listed = '  listed_1h: {count: "*", over: 1h, where: "ip in table(networks)"}\n'
    Path("shop.yaml").write_text(text.replace("rules:\n", f"{listed}rules:\n"))
    with pytest.raises(ConfigError) as caught:
        compile_pipeline(load_pipeline("shop.yaml"))
    written = re.findall(r"^    error: (.*)$", PAGE.read_text(), re.MULTILINE)
    assert str(caught.value).splitlines() == written
