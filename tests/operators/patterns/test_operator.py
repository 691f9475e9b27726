"""The operator of a pattern: no matter where batches are cut, what is restored, undone or evicted between them."""

from __future__ import annotations

import pytest

from operators.check_rows import sample_rows
from operators.checks import check_operator
from operators.operator import BOOL, INT64, STRING, decimal
from operators.patterns.operator import PatternOperator
from streamproc.language import compile_pipeline, read_pipeline

PIPELINE = """\
pipeline: p
streams:
  s: {id: i, event_time: t, fields: {i: string, k: string, a: bool, b: bool, n: int64, d: decimal(2), t: timestamp}}
partition_by: k
%s
patterns:
  x: >
    %s
"""
TEXTS = {
    "strict": "MEASURES COUNT(*) AS c, SUM(A.d) AS s PATTERN (A{2,} B) DEFINE A AS a, B AS b",
    "within": "PATTERN (A -> B ->> A) WITHIN INTERVAL '2' HOURS DEFINE A AS a, B AS b",
    "asks": "MEASURES FIRST(A.d) AS f, LAST(CLASSIFIER(), 1) AS l PATTERN ((A | C)+? -> !C -> B) "
    "DEFINE A AS a, B AS b AND d > LAST(A.d), C AS n > 0 AND n > FIRST(n)",
    "every": "MEASURES MATCH_NUMBER() AS m, MAX(n) AS x AFTER MATCH NO SKIP PATTERN (A -> (-> B)* ->> A) "
    "DEFINE A AS a, B AS b",
    "next": "AFTER MATCH SKIP TO NEXT ROW PATTERN (A+ !C B) DEFINE A AS a, B AS b, C AS n > 0",
}


def operator(text: str, ttl: str = "") -> PatternOperator:
    plan = compile_pipeline(read_pipeline(PIPELINE % (ttl, text), "p.yaml"))
    (found,) = [step for step in plan.steps if isinstance(step, PatternOperator)]
    return found


@pytest.mark.parametrize("ttl", ["", "ttl: 3h"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_pattern_does_not_depend_on_cuts(name: str, ttl: str) -> None:
    made = operator(TEXTS[name], ttl)
    types = {"k": STRING, "n": INT64, "d": decimal(2)}
    types |= {column: BOOL for column in made.inputs if column not in types}
    samples = [sample_rows({column: types[column] for column in made.inputs}, seed, size=80) for seed in range(3)]
    check_operator(made, samples)
