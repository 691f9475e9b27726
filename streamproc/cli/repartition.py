"""`streamproc repartition`: go on with another number of partitions, under a new pipeline name."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import AsJson, Checkpoints, LogUrl, PipelinePath, load_plan, refuse_unless
from streamproc.cli.stdout import write_json

if TYPE_CHECKING:
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
    as_json: AsJson = False,
) -> None:
    """Move the state of a pipeline that has decided all of its input to one with another number of partitions.

    Offline: no worker of either may run. The old pipeline stays as it is.
    """
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.loops import run_async
    from streamproc.cli.repartitioner import repartition

    old, new = load_plan(pipeline), load_plan(to)
    refuse_unless(not old.others, "several streams are not supported here yet", "only `run` and `backtest` know them")
    refuse_unless(old.pipeline != new.pipeline, "both pipelines have one name", "give the new one a name of its own")
    refuse_unless(
        old.stream.topic != new.stream.topic, "both pipelines read one topic", "give the new one a `topic:` of its own"
    )
    refuse_unless(
        _with_partitions_of(to, pipeline).state_fingerprint == old.state_fingerprint,
        "the pipelines differ in more than name, topics and partitions",
        "streams, keys and features must be the same",
    )
    refuse_missing_log(log)
    refuse_unless(state.is_dir(), f"--state: there is no directory {state}")
    report = run_async(repartition(old, new, log, state, checkpoints))
    if as_json:
        write_json(report)
        return
    before, after = report.partitions
    keys = ", ".join(f"{name} {count:,}" for name, count in report.keys.items())
    sys.stdout.write(f"{report.old} ({before} partitions) -> {report.new} ({after}): keys of {keys or 'no table'}\n")
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


def _with_partitions_of(path: str, other: str) -> Plan:
    """The plan of one file as it would be with the partitions of another."""
    from msgspec.structs import replace

    from streamproc.language import compile_pipeline, load_pipeline

    return compile_pipeline(replace(load_pipeline(path), partitions=load_pipeline(other).partitions))
