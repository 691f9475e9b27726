"""docs/language/costs.md: its example is explained as the page shows, but for figures, which are a table's."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_tutorial import ROOT, blocks, shell

PAGE = (ROOT / "docs" / "language" / "costs.md").read_text()
MEASURED = re.compile(
    r"[\d,]+\.\d\d +[\d,]+ +(?=\d)"  # us and alone, before hops
    r"|[\d.,]+(?= us an event in full| ms for an event| events a second)"
    r"|(?<=^Costs: ).*"
)


def without_figures(text: str) -> list[str]:
    """What is shown with each measured figure as #, and columns a space apart: a table made anew changes no more."""
    return [" ".join(MEASURED.sub("# ", line).split()) for line in text.splitlines()]


def test_the_example_is_explained_as_shown(tmp_path: Path) -> None:
    (source,) = [block for block in blocks(PAGE) if "file" in block.options]
    (tmp_path / source.options["file"]).write_text(source.text)
    (command,) = [block for block in blocks(PAGE) if block.language == "sh"]
    (shown,) = [block for block in blocks(PAGE) if block.language == "text"]
    assert without_figures(shell(command, tmp_path)) == without_figures(shown.text)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert [target for target in targets if not (ROOT / "docs" / "language" / target).exists()] == []
