"""`streamproc run` as it is, but it marks each step it comes to, and may be killed or stopped at any point.

`python -m tests.exactly_once.victim --marks FILE [--place POINT:N:MS] [--alone] [--forgetful] [--kafka JSON] --
PIPELINE --log URL ...`: a point is a step's number or a name of hooks.py; `--forgetful`: without a mechanism that
a verifier must miss (`hooks.hold_nothing`); `--kafka` are settings of the Kafka log.

It is the parent of the workers, and (when `--worker` is among the options) a worker too.
"""

from __future__ import annotations

__all__ = ["MODULE", "order_stop"]

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from streamproc.cli import compose, run, worker_process
from streamproc.cli.main import run_command
from streamproc.cli.processes import supervise
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.eventlog.kafka import KafkaLog
from streamproc.runtime import worker
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import Part
from tests.exactly_once.hooks import At, hang_in, hold_nothing
from tests.exactly_once.marks import Marks

MODULE = "tests.exactly_once.victim"
_real_run_worker = compose.run_worker
_real_child = run._child
_real_open_log = compose.open_log


class _Place:
    """Kill at the `n`-th time of a point, `delay_ms` later; `alone`: this process only, else its group.

    Once: a worker that is started again finds `done`.
    """

    def __init__(self, text: str, alone: bool, done: Path) -> None:
        self._done = done
        self._point, n, delay_ms = text.split(":")
        self._n, self._delay_s = int(n), float(delay_ms) / 1000
        self._alone = alone
        self._seen: Counter[str] = Counter()

    def __call__(self, point: str) -> None:
        self._seen[point] += 1
        if (point, self._seen[point]) != (self._point, self._n) or self._done.exists():
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


class _Orders:
    """Stop (SIGSTOP) at the point that is ordered, as soon as it is reached; once an order."""

    def __init__(self, marks: Path) -> None:
        self._path = _orders_path(marks)

    def __call__(self, point: str) -> None:
        if self._path.exists() and self._path.read_text() == point:
            self._path.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)


def order_stop(marks: Path, point: str) -> None:
    """The worker that writes `marks` is to stop when it next comes to `point`."""
    fresh = marks.with_suffix(".order")
    fresh.write_text(point)
    fresh.rename(_orders_path(marks))


def _orders_path(marks: Path) -> Path:
    return marks.with_suffix(".stop")


def _marked(marks: Marks) -> type[worker.Worker]:
    class MarkedWorker(worker.Worker):
        """Also says how many rows are at hand, and when none is left."""

        def _compute(self, inputs: list[TaskInput]) -> list[Part] | None:
            marks.rows(self._settings.index, sum(len(chunk.offsets) for given in inputs for chunk in given.chunks))
            return super()._compute(inputs)

        def _publish(self, parts: list[Part], ends: dict[TopicPartition, int]) -> None:
            super()._publish(parts, ends)
            marks.committed(self._settings.index)
            if self._ahead is not None:
                marks.rows(self._settings.index, sum(part.computed.judged.rows.size for part in self._ahead))

    return MarkedWorker


def _with_probe(marks: Marks, places: list[At]) -> Callable[..., Any]:
    def at(point: str) -> None:
        for place in places:
            place(point)

    def run_worker(plan: Any, options: Any, settings: WorkerSettings) -> Any:
        def probe(step: int) -> None:
            marks.step(settings.index, step)
            at(str(step))

        hang_in(at, lambda transactions: marks.replayed(settings.index, transactions))
        return _real_run_worker(plan, options, settings, probe=probe)

    return run_worker


def _with_settings(settings: dict[str, Any]) -> Callable[[str], EventLog]:
    def open_log(url: str) -> EventLog:
        return KafkaLog.from_url(url, **settings) if url.startswith("kafka:") else _real_open_log(url)

    return open_log


def _be_worker(arguments: argparse.Namespace, command: list[str]) -> None:
    marks = Marks(arguments.marks)
    marks.started(int(command[command.index("--worker") + 1]))
    places: list[At] = [_Orders(arguments.marks)]
    if arguments.place is not None:
        places.append(_Place(arguments.place, arguments.alone, arguments.marks.with_suffix(".placed")))
    if arguments.forgetful:
        hold_nothing()
    worker.Worker = _marked(marks)  # type: ignore[misc]
    compose.run_worker = _with_probe(marks, places)
    compose.open_log = _with_settings(json.loads(arguments.kafka))  # type: ignore[assignment]
    worker_process.main(command)


def main() -> NoReturn:
    """Put the marks in and run the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--place")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--forgetful", action="store_true")
    parser.add_argument("--kafka", default="{}")
    at = sys.argv.index("--")
    ours, command = sys.argv[1:at], sys.argv[at + 1 :]
    arguments = parser.parse_args(ours)

    def child(share: run.Share, index: int) -> list[str]:
        given = _real_child(share, index)[3:]  # python -m MODULE
        more = ["--forgetful"] * arguments.forgetful
        first = ours if index == 0 else ["--marks", str(arguments.marks), "--kafka", arguments.kafka, *more]
        return [sys.executable, "-m", MODULE, *first, "--", *given]

    if "--worker" in command:
        _be_worker(arguments, command[1:])
    run._child = child
    run.supervise = _fork_all  # type: ignore[attr-defined]
    sys.exit(run_command(["run", *command]))


def _fork_all(commands: Sequence[Sequence[str]], entry: object = None) -> int:
    """Supervise as `run` does when it has one worker: they are all forked, if it has no threads."""

    def forked(command: Sequence[str]) -> NoReturn:
        sys.argv = [MODULE, *command[3:]]
        main()

    return supervise(commands, forked)


if __name__ == "__main__":
    main()
