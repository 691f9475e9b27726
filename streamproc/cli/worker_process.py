"""A worker process of `run`: takes the options that `run` gives its children, and does without typer.

A new interpreter that imports typer too would be a tenth of a second later. A single worker is even forked by its
parent, which has loaded next to nothing.
"""

from __future__ import annotations

__all__ = ["COMMAND", "Share", "forked", "main", "work"]

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from state.errors import ConfigError, StateBarrierError, StreamprocError
from streamproc.cli.common import LogLevel, load_serving
from streamproc.cli.errors import report
from streamproc.cli.loops import leaving_quietly, run_async
from streamproc.cli.processes import die_with_parent
from streamproc.cli.restarts import CRASHED
from streamproc.runtime.notes import NOTES_VARIABLE

COMMAND = [sys.executable, "-m", "streamproc.cli.worker_process", "run"]
"""How the command line of a worker begins."""
SWITCHES = ("--until-end", "--leave")
"""Come last in it: options without a value."""
_LIVE_S, _AT_REST_S = 1.0, 60.0  # how long partitions that are behind are waited for: a cardholder waits, or nobody


class Share(NamedTuple):
    """What all workers of a `run` have in common."""

    pipeline: str
    log: str
    state: Path
    instance: str
    workers: int
    until_end: bool
    metrics_port: int | None
    log_level: LogLevel
    checkpoints: str | None = None
    checkpoint_seconds: float = 30.0
    checkpoint_days: int = 0
    leave: bool = False
    commit_interval_ms: float = 0.0
    metrics_host: str = "127.0.0.1"
    state_memory: int = 0
    partitions: int | None = None


def work(share: Share, index: int) -> int:
    """Be worker `index` of a run until told to stop; the exit code says whether a new start may help.

    Raises:
        StreamprocError: what it will not: the run ends.
    """
    try:
        _work(share, index)
    except (StreamprocError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        if not error.code:
            raise
        return CRASHED  # an operator's own: a command exits only with 0
    except Exception as error:
        report(error)
        return CRASHED
    return 0


def _work(share: Share, index: int) -> None:
    import structlog

    from streamproc.cli.compose import RunOptions, replay_horizon_ms, run_worker
    from streamproc.cli.log_directory import make_run_directories
    from streamproc.cli.logs import configure_logs
    from streamproc.runtime.settings import WorkerSettings

    configure_logs(share.log_level)
    plans = load_serving(share.pipeline, share.partitions)
    name = plans[0].pipeline
    for line in dict.fromkeys(line for plan in plans for line in plan.warnings if index == 0):
        structlog.get_logger("pipeline").warning("this may surprise", reason=line)
    make_run_directories(plans, share.log, share.state, share.checkpoints)
    port = None if share.metrics_port is None else share.metrics_port + index
    notes = os.environ.pop(NOTES_VARIABLE, None)
    options = RunOptions(
        share.log, share.state, share.metrics_host, port, notes=None if notes is None else int(notes),
        checkpoints=share.checkpoints, checkpoint_seconds=share.checkpoint_seconds,
        checkpoint_days=share.checkpoint_days,
    )  # fmt: skip
    settings = WorkerSettings(
        instance=share.instance, index=index, count=share.workers, until_end=share.until_end, leave=share.leave,
        commit_interval_ms=share.commit_interval_ms, state_memory_mb=share.state_memory,
        replay_horizon_ms=replay_horizon_ms(options), in_step_seconds=_AT_REST_S if share.until_end else _LIVE_S,
    )  # fmt: skip
    try:
        run_async(run_worker(plans, options, settings))
    except StateBarrierError as error:
        home = share.state / name
        raise ConfigError(f"{error.message}: {home}, and the journal of {name}", hint=error.hint) from None


def _parse(arguments: Sequence[str]) -> tuple[Share, int, int]:
    """(share, index, process id of the parent) of a command line that `run` has made."""
    *given, _, pipeline = arguments
    switches = set()
    while given[-1] in SWITCHES:
        switches.add(given.pop())
    values = dict(zip(given[0::2], given[1::2], strict=True))
    port, partitions = values.get("--metrics-port"), values.get("--partitions")
    share = Share(
        pipeline,
        values["--log"],
        Path(values["--state"]),
        values["--instance"],
        int(values["--workers"]),
        "--until-end" in switches,
        None if port is None else int(port),
        LogLevel(values["--log-level"]),
        values.get("--checkpoints"),
        float(values["--checkpoint-seconds"]),
        int(values["--checkpoint-days"]),
        "--leave" in switches,
        float(values["--commit-interval"]),
        values["--metrics-host"],
        int(values["--state-memory"]),
        None if partitions is None else int(partitions),
    )
    return share, int(values["--worker"]), int(values["--parent"])


def main(arguments: Sequence[str]) -> NoReturn:
    """The entry point."""
    try:
        with leaving_quietly():
            share, index, parent = _parse(arguments)
            die_with_parent(parent)
            code = work(share, index)
            sys.stdout.flush()
    except BaseException as error:
        code = report(error)
    sys.exit(code)


def forked(command: Sequence[str]) -> NoReturn:
    """Be what `command` would start."""
    main(command[len(COMMAND) :])


if __name__ == "__main__":
    main(sys.argv[2:])
