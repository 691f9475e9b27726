"""`streamproc state verify`: read all of the state and of its checkpoints, and say what is damaged."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.options import (
    AsJson,
    Checkpoints,
    PipelinePath,
    StageName,
    load_unscored,
    refuse_unless,
    stages_named,
)
from streamproc.cli.stdout import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from operators.plan import Plan

EXAMPLES = (
    "streamproc state verify configs/pipeline.yaml --state .streamproc/state",
    "streamproc state verify configs/pipeline.yaml --checkpoints s3://bucket/prefix --json",
)
_DAMAGED = 1


def command(
    pipeline: PipelinePath,
    *,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Read each row below this state directory. [default: none]")
    ] = None,
    checkpoints: Checkpoints = None,
    stage: StageName = None,
    environment: EnvironmentName = None,
    as_json: AsJson = False,
) -> int:
    """Read every row and chunk of the state, and every file of its checkpoints; exit with 1 if any is damaged."""
    plans = load_unscored(pipeline)
    asked = stages_named(plans, stage)
    given = state is not None or checkpoints is not None
    refuse_unless(given, "there is nothing to verify", "give --state, --checkpoints or both")
    checked, damaged = 0, []
    for what, wrong in _all(asked, state, checkpoints, named=len(plans) > 1):
        checked += 1
        damaged += [{"what": what, "damage": line} for line in wrong]
        if not as_json:
            sys.stdout.write("".join(f"{what}: {line}\n" for line in wrong) or f"{what}: ok\n")
            sys.stdout.flush()
    refuse_unless(checked > 0, f"there is nothing to verify: pipeline {plans[0].pipeline} has no state there yet")
    if as_json:
        write_json({"pipeline": plans[0].pipeline, "checked": checked, "damaged": damaged})
    return _DAMAGED if damaged else 0


def _all(
    plans: Sequence[Plan], state: Path | None, checkpoints: str | None, *, named: bool
) -> Iterator[tuple[str, list[str]]]:
    """Everything there is, by name (`named`: the stage's, too), and what is wrong with it."""
    if state is not None:
        from streamproc.cli.state_looks import check_local, local_stores

        for plan in plans:
            for task, wrong in check_local(plan, local_stores(plan, state)):
                yield f"state of task {task}{_of(plan, named)}", wrong
    if checkpoints is not None:
        from streamproc.cli.checkpoint_looks import check_checkpoints, existing_checkpoints

        for plan in plans:
            for what, wrong in check_checkpoints(existing_checkpoints(plan, checkpoints)):
                yield f"{what}{_of(plan, named)}", wrong


def _of(plan: Plan, named: bool) -> str:
    return f" of stage {plan.stage}" if named else ""
