"""A file of cases with anything changed in it is right, and then can be run, or is refused with a place."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from state.errors import ConfigError
from streamproc.cli.case_runner import CaseRunner
from streamproc.language.cases import read_cases
from tests.language.helpers import CONFIGS, compiled_stages

FOLDER = CONFIGS / "card_fraud"
PLANS = compiled_stages((FOLDER / "pipeline.yaml").read_text(), str(FOLDER / "pipeline.yaml"))
RULES = (FOLDER / "tests" / "rules.yaml").read_text().split("\n\n")
TEXT = "\n".join([(FOLDER / "tests" / "records.yaml").read_text(), *RULES[-3:]])
TOKENS = re.findall(r"\w+|\W", TEXT)
OTHERS = ["", "x", "0", "-1", "null", "true", "[]", "{}", ":", ",", "'", "..", "~", "{n}", "\n", "\t", "é", "1e999"]
OTHERS += ["9" * 30, "record", "fields", "logged", "repeat", "every", "10000", "start", "expect", "-", "at", "+5m"]


def test_the_file_is_right() -> None:
    assert len(read_cases(TEXT, "t.yaml", PLANS)) == 6


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(TOKENS) - 1), st.sampled_from([*OTHERS, *TOKENS])), min_size=1, max_size=3)
)
def test_a_changed_file_is_right_or_refused(changes: list[tuple[int, str]]) -> None:
    tokens = list(TOKENS)
    for position, token in changes:
        tokens[position] = token
    try:
        cases = read_cases("".join(tokens), "t.yaml", PLANS)
    except ConfigError as error:
        assert error.place is not None, error  # noqa: PT017 what it says matters
        return
    runner = CaseRunner(PLANS)
    assert [runner.run(case).case.name for case in cases] == [case.name for case in cases]
