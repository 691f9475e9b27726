"""`streamproc run` as it is, but it marks each step it comes to, and may kill its process group at one of them.

`python -m tests.exactly_once.victim --marks FILE [--place STEP:N:MS] [--alone] [--session-ms N] -- PIPELINE --log URL
...`: `--session-ms` is that of a Kafka group member.

It is the parent of the workers, and (when `--worker` is among the options) a worker too.
"""

from __future__ import annotations

__all__ = ["MODULE"]

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamproc.cli import compose, run, worker_process
from streamproc.cli.main import run_command
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.eventlog.kafka import KafkaLog
from streamproc.runtime import worker
from streamproc.runtime.results import Computed
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.settings import WorkerSettings
from tests.exactly_once.marks import Marks

MODULE = "tests.exactly_once.victim"
_real_run_worker = compose.run_worker
_real_child = run._child


class _Place:
    """Kill at the `n`-th time of `step`, `delay_ms` later; `alone`: this process only, else its group.

    Once: a worker that is started again finds `done`.
    """

    def __init__(self, text: str, alone: bool, done: Path) -> None:
        self._done = done
        step, n, delay_ms = text.split(":")
        self._step, self._n, self._delay_s = int(step), int(n), float(delay_ms) / 1000
        self._alone = alone
        self._seen: Counter[int] = Counter()

    def __call__(self, step: int) -> None:
        self._seen[step] += 1
        if (step, self._seen[step]) != (self._step, self._n) or self._done.exists():
            return
        self._done.touch()
        if self._delay_s:
            threading.Thread(target=self._kill, daemon=True).start()
        else:
            self._kill()

    def _kill(self) -> None:
        time.sleep(self._delay_s)
        if self._alone:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            os.killpg(0, signal.SIGKILL)


def _marked(marks: Marks) -> type[worker.Worker]:
    class MarkedWorker(worker.Worker):
        """Also says how many rows are at hand, and when none is left."""

        def _compute(self, inputs: list[TaskInput]) -> Computed | None:
            marks.rows(self._settings.index, sum(len(chunk.offsets) for given in inputs for chunk in given.chunks))
            return super()._compute(inputs)

        def _publish(self, computed: Computed, ends: dict[TopicPartition, int]) -> None:
            super()._publish(computed, ends)
            marks.committed(self._settings.index)
            if self._ahead is not None:
                marks.rows(self._settings.index, self._ahead.judged.rows.size)

    return MarkedWorker


def _with_probe(marks: Marks, place: Callable[[int], None] | None) -> Callable[..., Any]:
    def run_worker(plan: Any, options: Any, settings: WorkerSettings) -> Any:
        def probe(step: int) -> None:
            marks.step(settings.index, step)
            if place is not None:
                place(step)

        return _real_run_worker(plan, options, settings, probe=probe)

    return run_worker


def _with_session(session_ms: int) -> Callable[[str], EventLog]:
    def open_log(url: str) -> EventLog:
        return KafkaLog.from_url(url, session_timeout_ms=session_ms)

    return open_log


def main() -> None:
    """Put the marks in and run the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--place")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--session-ms", type=int)
    at = sys.argv.index("--")
    ours, command = sys.argv[1:at], sys.argv[at + 1 :]
    arguments = parser.parse_args(ours)

    def child(share: run.Share, index: int) -> list[str]:
        given = _real_child(share, index)[3:]  # python -m MODULE
        session = [] if arguments.session_ms is None else ["--session-ms", str(arguments.session_ms)]
        first = ours if index == 0 else ["--marks", str(arguments.marks), *session]
        return [sys.executable, "-m", MODULE, *first, "--", *given]

    if "--worker" not in command:
        run._child = child
        sys.exit(run_command(["run", *command]))
    marks = Marks(arguments.marks)
    done = arguments.marks.with_suffix(".placed")
    place = None if arguments.place is None else _Place(arguments.place, arguments.alone, done)
    worker.Worker = _marked(marks)  # type: ignore[misc]
    compose.run_worker = _with_probe(marks, place)
    if arguments.session_ms is not None:
        compose.open_log = _with_session(arguments.session_ms)  # type: ignore[assignment]
    worker_process.main(command[1:])


if __name__ == "__main__":
    main()
