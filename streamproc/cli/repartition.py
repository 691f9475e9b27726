"""`streamproc repartition`: go on with another number of partitions, under a new pipeline name."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.options import AsJson, Checkpoints, LogUrl, PipelinePath, load_stages, refuse_unless
from streamproc.cli.stdout import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from operators.plan import Plan

EXAMPLES = (
    "streamproc repartition shop.yaml --to shop-6.yaml --log file:.streamproc --state .streamproc/state",
    "streamproc repartition shop.yaml --to shop-6.yaml --log kafka://localhost:9092 --state streamproc-state "
    "--checkpoints s3://bucket/prefix",
)


def command(
    pipeline: PipelinePath,
    *,
    to: Annotated[
        str, typer.Option(metavar="PIPELINE", help="The new pipeline: the same, but its name, topics and partitions.")
    ],
    log: LogUrl,
    state: Annotated[Path, typer.Option(metavar="DIR", help="The state directory of both pipelines.")],
    checkpoints: Checkpoints = None,
    environment: EnvironmentName = None,
    as_json: AsJson = False,
) -> None:
    """Move the state of a pipeline that has decided all of its input to one with another number of partitions.

    Offline: no worker of either may run. The old pipeline stays as it is.
    """
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.loops import run_async
    from streamproc.cli.repartitioner import repartition

    old, new = load_stages(pipeline), load_stages(to)
    _refuse_what_does_not_fit(old, new, _fingerprints_with_partitions_of(to, pipeline))
    refuse_missing_log(log)
    refuse_unless(state.is_dir(), f"--state: there is no directory {state}")
    report = run_async(repartition(old, new, log, state, checkpoints))
    if as_json:
        write_json(report)
        return
    few, many = report.partitions
    keys = ", ".join(f"{name} {count:,}" for name, count in report.keys.items())
    sys.stdout.write(f"{report.old} ({few} partitions) -> {report.new} ({many}): keys of {keys or 'no table'}\n")
    if report.set_aside:
        sys.stderr.write(
            f"WARNING: state of {report.new}, which had not begun, was there already, and is set aside: "
            f"{report.set_aside} tasks\n"
        )
    if report.ids_reused:
        sys.stderr.write(
            f"WARNING: {report.ids_reused:,} ids that several partitions had seen meet in one: of each, only the last "
            "record is known as a duplicate, others are decided anew with the reason id_reused\n"
        )


def _refuse_what_does_not_fit(old: Sequence[Plan], new: Sequence[Plan], fingerprints: Sequence[str]) -> None:
    """`fingerprints`: of the new one, if it had the partitions of the old one."""
    several = any(plan.others for plan in old)
    refuse_unless(not several, "several streams are not supported here yet", "only `run` and `backtest` know them")
    before, after = old[0], new[0]
    refuse_unless(
        before.pipeline != after.pipeline, "both pipelines have one name", "give the new one a name of its own"
    )
    topic = after.stream.topic
    refuse_unless(
        before.stream.topic != topic, "both pipelines read one topic", "give the new one a `topic:` of its own"
    )
    refuse_unless(
        fingerprints == [plan.state_fingerprint for plan in old],
        "the pipelines differ in more than name, topics and partitions",
        "streams, stages, keys and features must be the same",
    )


def _fingerprints_with_partitions_of(path: str, other: str) -> list[str]:
    """The state's fingerprints, by stage, of one file as it would be with the partitions of another."""
    from msgspec.structs import replace

    from streamproc.cli.common import compiled
    from streamproc.language import load_pipeline

    plans = compiled(replace(load_pipeline(path), partitions=load_pipeline(other).partitions))
    return [plan.state_fingerprint for plan in plans]
