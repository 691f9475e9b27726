"""`streamproc state checkpoints`: what could be restored from, newest first."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.options import AsJson, PipelinePath, StageName, load_unscored, stages_named
from streamproc.cli.stdout import write_json

EXAMPLES = ("streamproc state checkpoints configs/pipeline.yaml --checkpoints s3://bucket/prefix",)
_DAMAGED = 1


def command(
    pipeline: PipelinePath,
    *,
    checkpoints: Annotated[str, typer.Option(metavar="URL", help="The address that was given to `run`.")],
    stage: StageName = None,
    environment: EnvironmentName = None,
    as_json: AsJson = False,
) -> int:
    """List the checkpoints of each task, newest first; exit with 1 if one cannot be read. Files are not read."""
    from streamproc.cli.aligned import SAME_OR_OTHER, aligned
    from streamproc.cli.checkpoint_looks import existing_checkpoints, look_at_checkpoints

    plans = load_unscored(pipeline)
    looks = [
        look
        for plan in stages_named(plans, stage)
        for look in look_at_checkpoints(plan, existing_checkpoints(plan, checkpoints))
    ]
    named = len(plans) > 1
    if as_json:
        write_json({"pipeline": plans[0].pipeline, "checkpoints": looks})
    elif looks:
        shown = slice(0 if named else 1, None)
        header = ["stage", "task", "sequence", "position", "plan", "files", "bytes", "time", "checkpoint"][shown]
        rows = [
            [
                look.stage, look.task, look.sequence, look.position, SAME_OR_OTHER[look.plan],
                look.files, look.bytes, look.time, look.name,
            ][shown]
            for look in looks
        ]  # fmt: skip
        sys.stdout.write(aligned(header, rows))
    if not looks:
        sys.stderr.write(f"no checkpoints of pipeline {plans[0].pipeline} there yet\n")
    for look in looks:
        if look.unreadable:
            sys.stderr.write(f"task {look.task}{f' of stage {look.stage}' if named else ''}: {look.unreadable}\n")
    return _DAMAGED if any(look.unreadable for look in looks) else 0
