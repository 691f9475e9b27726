"""The topics a pipeline needs: made if missing, checked if there."""

from __future__ import annotations

__all__ = ["prepare_topics"]

from collections.abc import Sequence

import structlog

from operators.plan import Plan
from state.errors import ConfigError, PartitionsChangedError, StateCorruptedError
from streamproc.eventlog.contract import Admin, EventLog, TopicPartition, TopicSpec
from streamproc.runtime.journal import JournalHead
from streamproc.runtime.retention import cautions, check_retention


async def prepare_topics(log: EventLog, *plans: Plan, replay_horizon_ms: int | None = None, warns: bool = True) -> int:
    """Create what the stages of a pipeline lack; the number of partitions that all their topics share.

    `replay_horizon_ms`: as in `WorkerSettings`; None for who restores nothing. `warns`: of short retention; one worker
    of a run says it.

    Raises:
        ConfigError: existing topics disagree about the number of partitions, or lose records that a replay needs.
        PartitionsChangedError: they all have another number than when the group decided their records.
        EventLogError: the log cannot be reached.
    """
    admin = log.admin()
    source = plans[0].stream.topic
    partitions = plans[0].topic_partitions
    for stream in [stream for plan in plans for stream in plan.streams]:
        if found := await admin.partitions(stream.topic):
            source, partitions = stream.topic, found
            break
    configs = {name: plan.topic_config for plan in plans for name in _names(plan)}
    specs = [TopicSpec(name, partitions, config) for name, config in configs.items()]
    await admin.ensure_topics(specs)
    for spec in specs:
        found = await admin.partitions(spec.name)
        if found != partitions:
            raise ConfigError(
                f"topic {spec.name} has {found} partitions, {source} has {partitions}: they must be equal",
                hint="a key's partition would change: see `streamproc repartition`, or start under a new pipeline name",
            )
    if replay_horizon_ms is not None:
        await _check_number(admin, plans, partitions)
    for plan in plans:
        kept = await check_retention(admin, plan, replay_horizon_ms or 0)
        if replay_horizon_ms is not None and warns:
            for caution in cautions(kept, plan, replay_horizon_ms):
                structlog.get_logger("retention").warning("retention is short", reason=caution)
    return partitions


async def _check_number(admin: Admin, plans: Sequence[Plan], partitions: int) -> None:
    """What the group has committed says how many partitions there were: also to who has none of the old ones.

    Raises:
        PartitionsChangedError: it was another number.
    """
    sources = [TopicPartition(plan.stream.topic, number) for plan in plans for number in range(partitions)]
    for tp, committed in (await admin.committed(plans[0].pipeline, sources)).items():
        try:
            said = JournalHead.parse(committed.metadata).partitions
        except StateCorruptedError:
            continue  # a restore says so
        if said not in {0, partitions}:
            raise PartitionsChangedError(f"topic {tp.topic} has {partitions} partitions, and had {said}")


def _names(plan: Plan) -> list[str]:
    topics = plan.topics
    sources = [*(call.source for call in plan.calls), *(stream.topic for stream in plan.streams)]
    timed = (topics.alerts, topics.late) if topics.alerts else ()
    written = (*topics.side.values(), *timed, *(statement.topic for statement in plan.statements))
    decided = (topics.decisions,) if topics.decisions else ()
    return [*sources, *decided, topics.dead_letters, topics.journal, *written]
