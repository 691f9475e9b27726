"""`streamproc state checkpoints`: what could be restored from, newest first."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import Annotated

import typer

from streamproc.cli.options import AsJson, PipelinePath, load_plan
from streamproc.cli.stdout import write_json

EXAMPLES = ("streamproc state checkpoints configs/pipeline.yaml --checkpoints s3://bucket/prefix",)
_DAMAGED = 1


def command(
    pipeline: PipelinePath,
    *,
    checkpoints: Annotated[str, typer.Option(metavar="URL", help="The address that was given to `run`.")],
    as_json: AsJson = False,
) -> int:
    """List the checkpoints of each task, newest first; exit with 1 if one cannot be read. Files are not read."""
    from streamproc.cli.aligned import SAME_OR_OTHER, aligned
    from streamproc.cli.checkpoint_looks import existing_checkpoints, look_at_checkpoints

    plan = load_plan(pipeline)
    looks = list(look_at_checkpoints(plan, existing_checkpoints(plan, checkpoints)))
    if as_json:
        write_json({"pipeline": plan.pipeline, "checkpoints": looks})
    elif looks:
        header = ["task", "sequence", "position", "plan", "files", "bytes", "time", "checkpoint"]
        rows = [
            [
                look.task,
                look.sequence,
                look.position,
                SAME_OR_OTHER[look.plan],
                look.files,
                look.bytes,
                look.time,
                look.name,
            ]
            for look in looks
        ]
        sys.stdout.write(aligned(header, rows))
    if not looks:
        sys.stderr.write(f"no checkpoints of pipeline {plan.pipeline} there yet\n")
    for look in looks:
        if look.unreadable:
            sys.stderr.write(f"task {look.task}: {look.unreadable}\n")
    return _DAMAGED if any(look.unreadable for look in looks) else 0
