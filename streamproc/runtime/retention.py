"""What a restore reads again must still be there: checked at start, and every hour, for topics' settings change.

input and journal     not compacted: every record counts, not the last one of a key
journal               kept at least as long as the input: without its entry a record cannot be replayed
input                 with checkpoints, kept at least as far back as the oldest one that a restore may begin from
"""

from __future__ import annotations

__all__ = ["check_retention", "watch_retention"]

import structlog

from operators.plan import Plan
from state.errors import ConfigError, EventLogError
from streamproc.clock import Clock
from streamproc.eventlog.contract import Admin, Retention
from streamproc.runtime.metrics import WorkerMetrics

_EVERY_SECONDS = 3600.0


async def check_retention(admin: Admin, plan: Plan, replay_horizon_ms: int) -> None:
    """Look the topics' settings up; 0: there are no checkpoints.

    Raises:
        ConfigError: records that a replay needs would be removed.
        EventLogError: the log cannot be reached.
    """
    source, journal = plan.stream.topic, plan.topics.journal
    found = await admin.retention([source, journal])
    for topic, kept in found.items():
        if kept.compacted:
            raise ConfigError(
                f"topic {topic} is compacted: records that a replay needs would go",
                hint="set its cleanup.policy=delete",
            )
    if source not in found or journal not in found:
        return  # not ours to ask
    if _time(found[journal]) < _time(found[source]) or _size(found[journal]) < _size(found[source]):
        raise ConfigError(
            f"the journal {journal} is kept for a shorter time than its input {source}",
            hint="give it at least the same retention.ms and retention.bytes",
        )
    if _time(found[source]) < replay_horizon_ms:
        raise ConfigError(
            f"topic {source} keeps records for {_time(found[source]) / 1000:g} s,"
            f" a restore from the oldest kept checkpoint needs those of {replay_horizon_ms / 1000:g} s",
            hint="raise its retention.ms, or lower --checkpoint-seconds",
        )


def _time(kept: Retention) -> float:
    return float("inf") if kept.time_ms is None else kept.time_ms


def _size(kept: Retention) -> float:
    return float("inf") if kept.size_bytes is None else kept.size_bytes


async def watch_retention(
    admin: Admin, plan: Plan, replay_horizon_ms: int, *, metrics: WorkerMetrics, clock: Clock
) -> None:
    """For ever, each hour: say loudly what would have been refused at the start."""
    logger = structlog.get_logger("retention")
    while True:
        await clock.sleep(_EVERY_SECONDS)
        try:
            await check_retention(admin, plan, replay_horizon_ms)
        except ConfigError as error:
            metrics.retention_too_short.set(1)
            logger.error("records that a replay needs may be removed", reason=str(error))
        except EventLogError as error:
            logger.warning("the topics' retention cannot be looked up", error=str(error))
        else:
            metrics.retention_too_short.set(0)
