"""A pipeline with anything changed in it compiles or is refused with a place: no other exception, ever."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from state.errors import ConfigError
from tests.language.helpers import CONFIGS, compiled_stages

FILE = CONFIGS / "card_fraud" / "pipeline.yaml"
SHORT = FILE.read_text()
TOKENS = re.findall(r"\w+|\W", SHORT)
OTHERS = [
    "",
    "x",
    "0",
    "-1",
    "null",
    "true",
    "[]",
    "{}",
    ":",
    ",",
    "'",
    "*",
    "(",
    ")",
    "5m",
    "amount",
    "previous",
    "\n",
]
OTHERS += ["table", "fraud", "score", ".", "per", "name", "{group}", "1e999", "é", "9" * 30, "select", "case"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(TOKENS) - 1), st.sampled_from([*OTHERS, *TOKENS])), min_size=1, max_size=3)
)
def test_a_changed_pipeline_is_right_or_refused(changes: list[tuple[int, str]]) -> None:
    tokens = list(TOKENS)
    for position, token in changes:
        tokens[position] = token
    try:
        plans = compiled_stages("".join(tokens), str(FILE))
    except ConfigError as error:
        assert error.place is not None, error  # noqa: PT017 what it says matters
        return
    assert plans[-1].steps
