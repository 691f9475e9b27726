"""docs/language/time.md: its files are written, its commands run, its output compared; a backtest says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.test_tutorial import ROOT, Block, blocks, shell

PAGE = ROOT / "docs" / "language" / "time.md"


@pytest.mark.timeout(300)
def test_the_example_runs(tmp_path: Path) -> None:
    shown, ran, files = "", [], []
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "sh":
            shown = shell(block, tmp_path)
        elif block.language == "text":
            assert block.text == shown
            files = shown.splitlines()
        ran.append(block.language)
    assert ran == ["yaml", "ndjson", "sh", "text"]
    line = "streamproc backtest shop.yaml --input payments.ndjson --output b.parquet"
    shell(Block("sh", {}, line, 0), tmp_path)
    told = [
        *(tmp_path / "b.alerts.ndjson").read_text().splitlines(),
        *(tmp_path / "b.late.ndjson").read_text().splitlines(),
    ]
    still_open = set(told) - set(files)
    assert set(files) <= set(told)
    assert {'"window_end":1777642200000' in one for one in still_open} == {True}, "the visit of 13:00 ends at 13:30"
