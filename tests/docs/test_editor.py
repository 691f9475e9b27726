"""docs/language/editor.md: its command prints the schema that its pipeline names, and the pipeline is right."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.docs.test_tutorial import ROOT, blocks, shell
from tests.language.draft2020 import faults, read
from tests.language.helpers import compiled

PAGE = (ROOT / "docs" / "language" / "editor.md").read_text()


def test_the_example_is_right(tmp_path: Path) -> None:
    command, pipeline = blocks(PAGE)
    printed = command._replace(text=command.text.replace(" > pipeline.schema.json", ""))
    schema = json.loads(shell(printed, tmp_path))
    assert re.match(r"# yaml-language-server: \$schema=pipeline\.schema\.json\n", pipeline.text)
    assert faults(schema, read(pipeline.text)) == []
    assert [rule.id for rule in compiled(pipeline.text).rules] == ["burst"]
