"""What a restore reads again must still be there: checked at start, and every hour, for topics' settings change.

input and journal     not compacted: every record counts, not the last one of a key
journal               kept at least as long as the input: without its entry a record cannot be replayed
input                 with checkpoints, kept at least as far back as the oldest one that a restore may begin from

That is what holds while all goes well. Checkpoints grow old while nobody writes new ones, and without any the local
state is all there is: what a finite retention does not bear then is said, and not refused (`cautions`).
"""

from __future__ import annotations

__all__ = ["cautions", "check_retention", "watch_retention"]

from collections.abc import Mapping, Sequence

import structlog

from operators.plan import Plan
from state.errors import ConfigError, EventLogError
from streamproc.clock import Clock
from streamproc.eventlog.contract import Admin, Retention
from streamproc.runtime.metrics import WorkerMetrics

_EVERY_SECONDS = 3600.0
_OUTAGE_MS = 24 * 3_600_000
"""An outage so long should be borne: it is noticed and mended on a working day."""


async def check_retention(admin: Admin, plan: Plan, replay_horizon_ms: int) -> dict[str, Retention]:
    """Look the topics' settings up, and return them; 0: there are no checkpoints.

    Raises:
        ConfigError: records that a replay needs would be removed.
        EventLogError: the log cannot be reached.
    """
    sources, journal = [stream.topic for stream in plan.streams], plan.topics.journal
    found = await admin.retention([*sources, journal])
    for topic, kept in found.items():
        if kept.compacted:
            raise ConfigError(
                f"topic {topic} is compacted: records that a replay needs would go",
                hint="set its cleanup.policy=delete",
            )
    for source in sources:
        _check_source(found, source, journal, replay_horizon_ms)
    return found


def _check_source(found: Mapping[str, Retention], source: str, journal: str, replay_horizon_ms: int) -> None:
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


def cautions(found: Mapping[str, Retention], plan: Plan, replay_horizon_ms: int) -> list[str]:
    """What settings that `check_retention` took do not bear, and what to do about it."""
    return [line for stream in plan.streams for line in _cautions_of(found, stream.topic, replay_horizon_ms)]


def _cautions_of(found: Mapping[str, Retention], source: str, replay_horizon_ms: int) -> list[str]:
    kept = found.get(source, Retention())
    if kept.time_ms is None and kept.size_bytes is None:
        return []
    if replay_horizon_ms == 0:
        return [
            f"there are no checkpoints, and topic {source} does not keep all records: a task whose local state is lost"
            " cannot be restored (use --checkpoints, or give input and journal retention.ms=-1 and retention.bytes=-1)"
        ]
    out = []
    if (spare := _time(kept) - replay_horizon_ms) < _OUTAGE_MS:
        out.append(
            f"topic {source} keeps records for {_time(kept) / 1000:g} s: after an outage of more than"
            f" {spare / 1000:g} s the oldest kept checkpoint is too old to restore from (raise its retention.ms)"
        )
    if kept.size_bytes is not None:
        out.append(
            f"topic {source} keeps {kept.size_bytes} bytes a partition: under load these may be fewer records than"
            " a restore from a checkpoint needs (set its retention.bytes=-1, and bound it by retention.ms)"
        )
    return out


def _time(kept: Retention) -> float:
    return float("inf") if kept.time_ms is None else kept.time_ms


def _size(kept: Retention) -> float:
    return float("inf") if kept.size_bytes is None else kept.size_bytes


async def watch_retention(
    admin: Admin, plans: Sequence[Plan], replay_horizon_ms: int, *, metrics: WorkerMetrics, clock: Clock, warns: bool
) -> None:
    """For ever, each hour: say loudly what would have been refused at the start of these stages.

    `warns`: also of what `cautions` finds; one worker of a run says it.
    """
    logger = structlog.get_logger("retention")
    said: list[str] = []
    while True:
        await clock.sleep(_EVERY_SECONDS)
        found: list[str] = []
        short = False
        try:
            for plan in plans:
                try:
                    kept = await check_retention(admin, plan, replay_horizon_ms)
                except ConfigError as error:
                    short = True
                    logger.error("records that a replay needs may be removed", reason=str(error))
                else:
                    found += cautions(kept, plan, replay_horizon_ms)
        except EventLogError as error:
            logger.warning("the topics' retention cannot be looked up", error=str(error))
            continue
        metrics.retention_too_short.set(short)
        for caution in found:
            if warns and caution not in said:
                logger.warning("retention is short", reason=caution)
        said = found
