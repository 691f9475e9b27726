"""The cases of the shipped pipelines hold, reach every rule, and would miss each rule that is taken away."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from streamproc.cli.case_runner import CaseRunner
from streamproc.cli.common import load_stages
from streamproc.language import load_pipeline
from streamproc.language.cases import case_files, load_cases
from streamproc.language.load import NO_SCORE
from tests.cli.conftest import Cli

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = ("card_fraud/pipeline.yaml", "handbook/pipeline.yaml", "detection/pipeline.yaml", "detection/sparkov.yaml")
PIPELINES = [CONFIGS / name for name in SHIPPED]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_cases_hold_and_leave_no_rule_out(cli: Cli, path: Path) -> None:
    done = cli("test", path, "--json", "--coverage")
    said = json.loads(done.out)
    assert [case for case in said["cases"] if not case["ok"]] == []
    assert (done.code, said["rules_never_hit"], said["features_never_looked_at"]) == (0, [], [])
    assert said["ok"] == len(said["cases"]) > 0


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_rule_that_is_gone_is_missed(path: Path) -> None:
    plans = load_stages(str(path))
    plan = plans[-1]
    cases = [case for file in case_files(load_pipeline(path)) for case in load_cases(file, plans)]
    whole = CaseRunner(plans)
    hits = [(case, whole.run(case).hits) for case in cases]  # without a rule, only cases that hit it can differ
    unmissed = []
    for rule in plan.rules:
        without = msgspec.structs.replace(plan, rules=tuple(other for other in plan.rules if other is not rule))
        runner = CaseRunner([*plans[:-1], without])
        if not any(rule.id in hit and runner.run(case).differences for case, hit in hits):
            unmissed.append(rule.id)
    assert [rule for rule in unmissed if rule != NO_SCORE] == []
