"""What `why` and `explain-decisions` do."""

from __future__ import annotations

__all__ = ["explain_decisions", "opened", "why"]

import asyncio
import sys
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from models.absent import Blank
from models.explaining.catalogue import Catalogue
from models.registry import open_registry
from operators.plan import Plan
from state.errors import ConfigError
from streamproc.cli.common import compiled
from streamproc.cli.compose import open_log
from streamproc.cli.listening import listen
from streamproc.cli.loops import until_signal
from streamproc.clock import SystemClock
from streamproc.language import load_pipeline
from streamproc.runtime.health import HealthServer
from streamproc.services.explanations.explain import BlockExplainer, Explanation
from streamproc.services.explanations.follow import Follower, find_decision, topic_of
from streamproc.services.explanations.metrics import ExplanationMetrics


class Opened(NamedTuple):
    """The plan that decides, and what explains it."""

    plan: Plan
    explainer: BlockExplainer


def opened(path: str, registry: str | None) -> Opened:
    """Load a pipeline.

    Raises:
        ConfigError: it is wrong, or has no model.
    """
    pipeline = load_pipeline(path)
    plan = compiled(pipeline, Blank)[-1]  # which model it was is told by each decision
    if plan.model is None:
        raise ConfigError(f"the pipeline {plan.pipeline} has no model: its rules say themselves why they hit")
    declared, folder = pipeline.models[plan.model.name], Path(pipeline.folder)
    where = registry
    if where is None and declared.served is not None:
        where = declared.served.address(pipeline.folder)
    catalogue = Catalogue(
        plan.model.name, folder / declared.file if declared.file else None, declared.features,
        None if where is None else open_registry(where),
    )  # fmt: skip
    return Opened(plan, BlockExplainer(plan, catalogue))


async def why(given: Opened, decision: str, log_url: str) -> Explanation | None:
    """The explanation of one decision.

    Raises:
        EventLogError: the log failed.
    """
    log = open_log(log_url)
    try:
        return await find_decision(given.plan, log, given.explainer, decision)
    finally:
        await log.close()


async def explain_decisions(
    given: Opened, log_url: str, host: str, port: int | None, *, everything: bool, until_end: bool
) -> None:
    """Write explanations until a signal, or to what is the journal's end now; metrics are served at `port`, if any.

    Raises:
        ConfigError: nothing can listen there.
        EventLogError: the log failed.
    """
    clock, registry = SystemClock(), CollectorRegistry()
    log = open_log(log_url)
    metrics = ExplanationMetrics(registry, clock)
    follower = Follower(given.plan, log, given.explainer, clock, metrics, everything=everything)
    health = HealthServer(registry, lambda: follower.ready)
    try:
        await listen(health, host, port)
        await until_signal(follower.run(until_end=until_end))
    finally:
        await health.close()
        await log.close()
    said = f"{follower.written:,} explanations written to {topic_of(given.plan)}"
    more = f", of which {follower.refused:,} say why it cannot be said" if follower.refused else ""
    await asyncio.to_thread(sys.stderr.write, f"{said}{more}\n")
