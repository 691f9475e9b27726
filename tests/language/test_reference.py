"""docs/language/pipeline.md is complete and right."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from operators.timed.spec import TimedAggregate, WindowKind
from operators.windows.spec import Aggregate
from streamproc.language import compile_stages, model, read_pipeline
from tests.language.helpers import compiled

PAGES = Path(__file__).parents[2] / "docs" / "language"
REFERENCE = (PAGES / "pipeline.md").read_text()
TIME = (PAGES / "time.md").read_text()
CALLS = (PAGES / "calls.md").read_text()
PARALLEL = (PAGES / "parallel.md").read_text()
PATTERNS = (PAGES / "patterns.md").read_text()
NOT_KEYS = {
    "place",
    "places",
    "asked",
    "beside",
    "rows_place",
    "url_place",
    "topic_place",
    "stage_place",
    "per_place",
    "key_type",
    "match",
    "made",
    "options",
    "timed",
    "kind",
    "size",
    "served",
}


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
    page = _page(struct, key)
    assert re.search(rf"^\|[^|]*`{key}`", page, re.MULTILINE), f"{struct}.{key}"


def _page(struct: str, key: str) -> str:
    if struct in ("TimedWindow", "Absence", "Watermark"):
        return TIME
    if struct in ("Parallel", "SequencePattern"):
        return PARALLEL if struct == "Parallel" else PATTERNS
    return CALLS if struct == "Call" or key == "calls" else REFERENCE


@pytest.mark.parametrize("name", [*WindowKind, *TimedAggregate])
def test_what_waits_for_time_is_described(name: str) -> None:
    assert re.search(rf"^\|.*`{name}`", TIME, re.MULTILINE)


@pytest.mark.parametrize("aggregate", list(Aggregate))
def test_every_aggregate_is_described(aggregate: str) -> None:
    assert re.search(rf"^\|[^|]*`{aggregate}`", REFERENCE, re.MULTILINE)


def test_the_example_of_several_stages_is_right() -> None:
    text = REFERENCE.split("### Several stages")[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    shop, card = compile_stages(read_pipeline(text, "p.yaml"))
    assert shop.handoff is not None
    assert (shop.handoff.topic, shop.handoff.key, card.stream.topic) == ("shops.card", "user_id", "shops.card")
    assert {"share", "amount"} <= set(shop.handoff.columns)
    assert [rule.id for rule in card.rules] == ["burst"]


def test_the_first_example_runs() -> None:
    plan = compiled(REFERENCE.split("```yaml\n", 1)[1].split("```", 1)[0])
    assert [rule.id for rule in plan.rules] == ["burst", "large"]
    assert [field.name for field in plan.features][-1] == "amount_jump"
