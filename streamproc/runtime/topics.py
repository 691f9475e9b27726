"""The topics a pipeline needs: made if missing, checked if there."""

from __future__ import annotations

__all__ = ["prepare_topics"]

import structlog

from operators.plan import Plan
from state.errors import ConfigError
from streamproc.eventlog.contract import EventLog, TopicSpec
from streamproc.runtime.retention import cautions, check_retention


async def prepare_topics(log: EventLog, plan: Plan, replay_horizon_ms: int | None = None) -> int:
    """Create what is missing; the number of partitions that input, decisions and journal share.

    `replay_horizon_ms`: as in `WorkerSettings`; None for who restores nothing.

    Raises:
        ConfigError: existing topics disagree about the number of partitions, or lose records that a replay needs.
        EventLogError: the log cannot be reached.
    """
    admin = log.admin()
    source = plan.stream.topic
    partitions = await admin.partitions(source) or plan.topic_partitions
    names = [source, plan.topics.decisions, plan.topics.dead_letters, plan.topics.journal, *plan.topics.side.values()]
    await admin.ensure_topics([TopicSpec(name, partitions, plan.topic_config) for name in names])
    for name in names:
        found = await admin.partitions(name)
        if found != partitions:
            raise ConfigError(
                f"topic {name} has {found} partitions, {source} has {partitions}: they must be equal",
                hint="a key's partition would change: see `streamproc repartition`, or start under a new pipeline name",
            )
    kept = await check_retention(admin, plan, replay_horizon_ms or 0)
    if replay_horizon_ms is not None:
        for caution in cautions(kept, plan, replay_horizon_ms):
            structlog.get_logger("retention").warning("retention is short", reason=caution)
    return partitions
