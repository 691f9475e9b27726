"""`streamproc state inspect`: what lies in a state directory, a line a task."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import AsJson, PipelinePath, load_plan
from streamproc.cli.stdout import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamproc.cli.state_looks import TaskLook

EXAMPLES = (
    "streamproc state inspect configs/pipeline.yaml --state .streamproc/state",
    "streamproc state inspect configs/pipeline.yaml --state .streamproc/state --log file:.streamproc --json",
)
_DAMAGED = 1


def command(
    pipeline: PipelinePath,
    *,
    state: Annotated[Path, typer.Option(metavar="DIR", help="The state directory that was given to `run`.")],
    log: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Also say what is committed there, and how far the state is behind."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say what lies in a state directory: positions, rows, sizes. It is opened read-only; no worker may have it."""
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.loops import run_async
    from streamproc.cli.state_looks import compare, local_stores, look_at

    plan = load_plan(pipeline)
    if log is not None:
        refuse_missing_log(log)
    looks = list(look_at(plan, local_stores(plan, state)))
    if log is not None:
        run_async(compare(plan, log, looks))
    if as_json:
        write_json({"pipeline": plan.pipeline, "tasks": looks})
    else:
        sys.stdout.write(_text(looks, with_log=log is not None))
    if not looks:
        sys.stderr.write(f"no state of pipeline {plan.pipeline} in {state} yet\n")
    for look in looks:
        if look.damage:
            sys.stderr.write(f"task {look.task}: {look.damage}\n")
    return _DAMAGED if any(look.damage for look in looks) else 0


def _text(looks: Sequence[TaskLook], *, with_log: bool) -> str:
    from streamproc.cli.aligned import SAME_OR_OTHER, aligned

    if not looks:
        return ""
    header = ["task", "sequence", "position", "chain", "plan", "partitions", "rows", "ids", "bytes", "discarded"]
    rows = [
        [
            look.task, look.sequence, look.position, look.chain and look.chain[:8],
            SAME_OR_OTHER[look.plan], look.partitions, look.rows, look.entries,
            look.bytes, look.discarded, *([look.committed, look.behind] if with_log else []),
            "damaged" if look.damage else "",
        ]
        for look in looks
    ]  # fmt: skip
    text = aligned([*header, *(["committed", "behind"] if with_log else []), ""], rows)
    tables = [[look.task, t.name, t.keys, t.chunks, t.bytes] for look in looks for t in look.tables]
    return text + ("\n" + aligned(["task", "table", "keys", "chunks", "bytes"], tables) if tables else "")
