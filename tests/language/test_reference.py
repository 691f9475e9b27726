"""docs/language/pipeline.md is complete and right."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from operators.windows.spec import Aggregate
from streamproc.language import model
from tests.language.helpers import compiled

PAGES = Path(__file__).parents[2] / "docs" / "language"
REFERENCE = (PAGES / "pipeline.md").read_text()
CALLS = (PAGES / "calls.md").read_text()
NOT_KEYS = {"place", "places", "url_place", "key_type", "match", "options"}


def keys() -> list[tuple[str, str]]:
    structs = [vars(model)[name] for name in model.__all__]
    structs = [kind for kind in structs if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    return [
        (kind.__name__, field.encode_name)
        for kind in structs
        for field in msgspec.structs.fields(kind)
        if field.encode_name not in NOT_KEYS
    ]


@pytest.mark.parametrize(("struct", "key"), keys())
def test_every_key_is_described(struct: str, key: str) -> None:
    page = CALLS if struct == "Call" or key == "calls" else REFERENCE
    assert re.search(rf"^\| `{key}`", page, re.MULTILINE), f"{struct}.{key}"


@pytest.mark.parametrize("aggregate", list(Aggregate))
def test_every_aggregate_is_described(aggregate: str) -> None:
    assert re.search(rf"^\|[^|]*`{aggregate}`", REFERENCE, re.MULTILINE)


def test_the_first_example_runs() -> None:
    plan = compiled(REFERENCE.split("```yaml\n", 1)[1].split("```", 1)[0])
    assert [rule.id for rule in plan.rules] == ["burst", "large"]
    assert [field.name for field in plan.features][-1] == "amount_jump"
