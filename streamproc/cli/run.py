"""`streamproc run`: decide what comes. The workers are children of this process, which only looks after them."""

from __future__ import annotations

__all__ = ["EXAMPLES", "Share", "command"]

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from state.budget import shares
from streamproc.cli.environment import EnvironmentName
from streamproc.cli.log_directory import make_run_directories
from streamproc.cli.loops import leaving_quietly
from streamproc.cli.options import (
    CheckpointDays,
    Checkpoints,
    CheckpointSeconds,
    CommitInterval,
    LogLevel,
    LogUrl,
    MetricsHost,
    MetricsPort,
    Partitions,
    PipelinePath,
    StateMemory,
    load_serving,
)
from streamproc.cli.processes import die_with_parent, supervise
from streamproc.cli.worker_process import COMMAND, SWITCHES, Share, forked, work
from streamproc.runtime.identity import hold_run

INSTANCE_VARIABLE = "STREAMPROC_INSTANCE"
_STATE_OF_BROKERS = "streamproc-state"

EXAMPLES = (
    "streamproc run configs/pipeline.yaml --log file:.streamproc",
    "streamproc run configs/pipeline.yaml --log kafka://localhost:9092 --workers 4",
    "streamproc run configs/pipeline.yaml --env prod",
)

Instance = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Stable name of this pod. [default: $STREAMPROC_INSTANCE, else the host's]"),
]
StateDirectory = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Local state. [default: DIR/state of a file: log, else ./streamproc-state]"),
]


def command(
    pipeline: PipelinePath,
    log: LogUrl,
    *,
    environment: EnvironmentName = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Worker processes.")] = 1,
    state: StateDirectory = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop when all that was there at the start is decided and committed.")
    ] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    instance: Instance = None,
    checkpoints: Checkpoints = None,
    checkpoint_seconds: CheckpointSeconds = 30.0,
    checkpoint_days: CheckpointDays = 0,
    leave: Annotated[
        bool, typer.Option("--leave", help="Give the partitions up at the end, for others to take at once.")
    ] = False,
    commit_interval: CommitInterval = 0.0,
    state_memory: StateMemory = 0,
    partitions: Partitions = None,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged, as JSON lines on stderr.")] = LogLevel.INFO,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> int:
    """Run a pipeline: read its stream, decide each record exactly once, write decisions.

    SIGTERM or Ctrl-C finishes the transaction at hand and exits with 0; the next start goes on where this one stopped.
    """
    with leaving_quietly():
        if parent is not None:
            die_with_parent(parent)
        shares(state_memory)  # a budget that is too small is refused once, not by each worker
        name = instance or os.environ.get(INSTANCE_VARIABLE) or socket.gethostname()
        share = Share(
            pipeline, log, state or _state_of(log), name, workers, until_end, metrics_port, log_level, checkpoints,
            checkpoint_seconds, checkpoint_days, leave, commit_interval, metrics_host, state_memory, partitions,
        )  # fmt: skip
        if worker is not None:
            return work(share, worker)
        commands = [_child(share, index) for index in range(workers)]
        if workers == 1:  # its worker checks and locks
            return supervise(commands, forked if commands[0][: len(COMMAND)] == COMMAND else None)
        plans = load_serving(pipeline)  # what is wrong is said once, before anything starts
        make_run_directories(plans, log, share.state, checkpoints)
        held = hold_run(share.state / plans[0].pipeline, name, os.getpid())
        try:
            return supervise(commands)
        finally:
            os.close(held)


def _child(share: Share, index: int) -> list[str]:
    """The command line of worker `index`: worker_process.py reads it, and so does `run` itself."""
    options = {
        "--log": share.log,
        "--state": share.state,
        "--instance": share.instance,
        "--workers": share.workers,
        "--metrics-port": share.metrics_port,
        "--metrics-host": share.metrics_host,
        "--log-level": share.log_level,
        "--checkpoints": share.checkpoints,
        "--checkpoint-seconds": share.checkpoint_seconds,
        "--checkpoint-days": share.checkpoint_days,
        "--commit-interval": share.commit_interval_ms,
        "--state-memory": share.state_memory,
        "--partitions": share.partitions,
        "--worker": index,
        "--parent": os.getpid(),
    }
    given = [str(part) for option, value in options.items() if value is not None for part in (option, value)]
    switches = [switch for switch, on in zip(SWITCHES, (share.until_end, share.leave), strict=True) if on]
    return [*COMMAND, *given, *switches, "--", share.pipeline]


def _state_of(log: str) -> Path:
    scheme, _, directory = log.partition(":")
    return Path(directory) / "state" if scheme == "file" and directory else Path(_STATE_OF_BROKERS)
