"""The simulated pipelines, and with more than stages: a model and a deadline, a table that changes, a call out."""

from __future__ import annotations

__all__ = [
    "DEADLINE_MS", "PIPELINE", "STAGES", "AmountModel", "deadline_plans", "plans_of_a_process", "simulated_plans",
]  # fmt: skip

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from operators.live_tables import TableRows
from operators.plan import Plan
from streamproc.language import compile_stages, read_pipeline
from streamproc.language.model import Pipeline
from tests.oracle import late as oracle
from tests.simulation.scenario import BESIDE

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
STAGES = Path(__file__).parent / "stages.yaml"
_FILES = {1: PIPELINE, 2: STAGES, 3: STAGES, BESIDE: STAGES.with_name("beside.yaml")}
"""By the number of stages."""
DEADLINE_MS = 80
_DEADLINE = f"""
deadline: {DEADLINE_MS}ms
models:
  fraud: {{file: none.onnx, features: [amount]}}
"""
_TABLES = "tables:\n  limits: {key: card_id, file: limits.csv, topic: simulated.limits, columns: {top: decimal(2)}}\n"
_CALL = """\
  - name: reputation
    call: {url: "http://127.0.0.1:9/?d={device_id}", in_flight: 20, timeout: 60ms}
    returns: {reputation: int64}
"""
_PASSING = "      - {name: passing, partition_by: device_id}\n"
_AGAIN = f"  - parallel:\n{_PASSING}{_PASSING.replace('passing', 'again')}    wait: 100d\n"
_REVIEWED = "when: s_24h > 2000, then: review"
_RULES = {
    "table": "  - {id: limit, when: 'amount > table(limits, card_id).top', then: decline}\n",
    "call": "  - {id: reputed, when: reputation >= 80, then: review}\n",
    "deadline": "  - {id: score, when: score > 90, then: review}\n",
}


class AmountModel:
    """The model of the oracle."""

    width = 1
    digest = "1" * 64

    def __init__(self, path: Path) -> None:
        self.asked = 0

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        self.asked += len(matrix)
        return np.where(matrix[:, 0] > oracle.ABOVE, oracle.HIGH, oracle.LOW)


def _beside(text: str, more: frozenset[str]) -> str:
    """beside.yaml with a call before the rows go two ways, or behind, or within one; a `chain` in one of them."""
    before, rest = text.split("  - parallel:\n")
    branches, behind = rest.split("    wait:")
    terminal, holder = branches.split("      - name: holder")
    holder = "      - name: holder" + holder
    asked = _CALL if "call" in more else ""
    if "within" in more or "chain" in more:
        within = asked if "within" in more else ""
        steps = [*([holder] if "chain" in more else []), textwrap.indent(within, "    "), terminal]
        chain = "      - stages:\n" + textwrap.indent("".join(steps), "    ")
        branches = _PASSING + chain if "chain" in more else chain + holder
    elif "alone" in more:
        branches += textwrap.indent(asked, "    ")
    elif "last" in more:
        branches = "      - stages:\n" + textwrap.indent(terminal + textwrap.indent(asked, "    "), "    ") + holder
    if "behind" in more or "between" in more:
        again = _AGAIN if "between" in more else ""
        behind = behind.replace("  - name: card\n", asked + again + "  - name: card\n")
    elif not more & {"within", "alone", "last"}:
        before += asked
    return f"{before}  - parallel:\n{branches}    wait:{behind}"


@cache
def _pipeline(stages: int, more: frozenset[str]) -> Pipeline:
    more = more if stages > 1 else more - {"call"}
    text = _beside(_FILES[stages].read_text(), more) if stages == BESIDE else _FILES[stages].read_text()
    before, decision, after = text.partition("decision:\n")
    rules = "".join(rule for what, rule in _RULES.items() if what in more)
    parts = _DEADLINE * ("deadline" in more) + _TABLES * ("table" in more)
    text = before + rules + parts + decision + after
    if "side" in more:
        text = text.replace(_REVIEWED, _REVIEWED + ", to: checked")
    if "call" in more and stages != BESIDE:
        following = f"  - name: {'card' if stages == 2 else 'terminal'}\n"
        text = text.replace(following, _CALL + following)
    found = read_pipeline(text, str(STAGES.with_name(_FILES[stages].name)))
    left_out = {"terminal"} if stages == 2 else set()
    return msgspec.structs.replace(found, stages=tuple(one for one in found.stages if one.name not in left_out))


def _made(stages: int, more: frozenset[str]) -> Sequence[Plan]:
    return compile_stages(_pipeline(stages, more), models=AmountModel)


@cache
def simulated_plans(more: frozenset[str] = frozenset()) -> Mapping[int, Sequence[Plan]]:
    """The plans that seeds run, by the number of their stages; `more`: "deadline", "table", "call", "side";
    of stages side by side: "behind", "within", "alone" (a branch by itself), "last" (of one) or "between" (two groups)
    says where the call stands, "chain": a branch has two stages.
    """
    return {stages: _made(stages, more) for stages in _FILES}


@cache
def _kept(stages: int, more: frozenset[str], number: int) -> Sequence[Plan]:
    """Every other process has machine code: state goes from the ones to the others."""
    plans = _made(stages, more)
    for plan in plans if number % 2 else ():
        for step in plan.steps:
            step.prepare()
    return plans


def plans_of_a_process(stages: int, more: frozenset[str], number: int) -> Sequence[Plan]:
    """Those of `simulated_plans`, with tables of their own, which are empty. `number`: of the world's process."""
    plans = _kept(stages, more, number)
    for plan in plans:
        if plan.live is not None:
            for table in plan.live.tables:
                plan.live.put(table.topic, TableRows(table.schema).snapshot(), 0)
            plan.live.apply()
            plan.live.versions = ()
    return plans


def deadline_plans() -> Mapping[int, Sequence[Plan]]:
    """As `simulated_plans`."""
    return simulated_plans(frozenset({"deadline"}))
