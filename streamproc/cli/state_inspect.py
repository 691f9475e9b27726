"""`streamproc state inspect`: what lies in a state directory, a line a task."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.options import AsJson, PipelinePath, StageName, load_unscored, stages_named
from streamproc.cli.stdout import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamproc.cli.state_looks import TaskLook

EXAMPLES = (
    "streamproc state inspect configs/pipeline.yaml --state .streamproc/state",
    "streamproc state inspect configs/pipeline.yaml --state .streamproc/state --log file:.streamproc --json",
    "streamproc state inspect configs/pipeline.yaml --state .streamproc/state --stage main",
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
    stage: StageName = None,
    environment: EnvironmentName = None,
    as_json: AsJson = False,
) -> int:
    """Say what lies in a state directory: positions, rows, sizes. It is opened read-only; no worker may have it."""
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.loops import run_async
    from streamproc.cli.state_looks import compare, local_stores, look_at

    plans = load_unscored(pipeline)
    looks: list[TaskLook] = []
    if log is not None:
        refuse_missing_log(log)
    for plan in stages_named(plans, stage):
        found = list(look_at(plan, local_stores(plan, state)))
        if log is not None:
            run_async(compare(plan, log, found))
        if not found:
            sys.stderr.write(f"no state of pipeline {plan.home} in {state} yet\n")
        looks += found
    named = len(plans) > 1
    if as_json:
        write_json({"pipeline": plans[0].pipeline, "tasks": looks})
    else:
        sys.stdout.write(_text(looks, with_log=log is not None, named=named))
    for look in looks:
        if look.damage:
            sys.stderr.write(f"task {look.task}{f' of stage {look.stage}' if named else ''}: {look.damage}\n")
    return _DAMAGED if any(look.damage for look in looks) else 0


def _text(looks: Sequence[TaskLook], *, with_log: bool, named: bool) -> str:
    """`named`: with the stages' names."""
    from streamproc.cli.aligned import SAME_OR_OTHER, aligned

    if not looks:
        return ""
    shown = slice(0 if named else 1, None)
    header = ["stage", "task", "sequence", "position", "chain", "plan"]
    header += ["partitions", "rows", "ids", "bytes", "discarded", *(["committed", "behind"] if with_log else []), ""]
    rows = [
        [
            look.stage, look.task, look.sequence, look.position, look.chain and look.chain[:8],
            SAME_OR_OTHER[look.plan], look.partitions, look.rows, look.entries,
            look.bytes, look.discarded, *([look.committed, look.behind] if with_log else []),
            "damaged" if look.damage else "",
        ]
        for look in looks
    ]  # fmt: skip
    text = aligned(header[shown], [row[shown] for row in rows])
    of_tables = ["stage", "task", "table", "keys", "chunks", "bytes"]
    tables = [[look.stage, look.task, t.name, t.keys, t.chunks, t.bytes][shown] for look in looks for t in look.tables]
    return text + ("\n" + aligned(of_tables[shown], tables) if tables else "")
