"""A plan over files: the engine of `run`, fed piece by piece without a log. What `backtest` does, without its dress.

Rows go to tasks by Kafka's hash of their key, as `feed` would send them, so windows and deduplication see what a
run's would. Results come in input order. The record time of all rows is the start of the backtest, as at a feed.
"""

from __future__ import annotations

__all__ = ["FileReplay", "Result"]

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from operators.plan import Plan
from state.hashing import partitions_of
from state.rowstore import RowStore
from streamproc.cli.compose import build_engine
from streamproc.cli.files import Piece, read_file
from streamproc.cli.formats import blocking_schemas
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.results import Judged
from streamproc.runtime.rows import Refused, TaskInput, decode_rows


class Result(NamedTuple):
    """One piece of a file, decided; `judged.rows.offsets` are places in the piece, so is `Refused.offset`.

    `progress`: bytes of all files done so far, about.
    """

    path: Path
    piece: Piece
    judged: Judged
    progress: int

    @property
    def refused(self) -> Sequence[Refused]:
        """Records that became dead letters, in the file's order."""
        return sorted(self.judged.rows.refused, key=lambda letter: letter.offset)


class FileReplay:
    """Decides the rows of files, in order, on state of its own that dies with it."""

    def __init__(self, plan: Plan) -> None:
        """Raises ConfigError if the plan cannot be executed here."""
        self._plan = plan
        schemas = blocking_schemas(plan.stream, SystemClock())
        self._engine, state = build_engine(plan, bytes(32), schemas=schemas)
        for task in range(plan.topic_partitions):
            state.add_task(task, NothingStored())
        self._now_ms = time.time_ns() // 1_000_000

    def run(self, paths: Sequence[Path]) -> Iterator[Result]:
        """Raises ConfigError for a file that cannot be read."""
        done = 0
        for path in paths:
            for piece in read_file(path, self._plan.stream):
                rows = decode_rows(self._engine.decoder, self._inputs(piece))
                judged = self._engine.judge(rows, attempts_max=rows.size)  # nobody waits
                self._engine.publish()
                yield Result(path, piece, judged, done + piece.progress)
            done += path.stat().st_size

    def _inputs(self, piece: Piece) -> list[TaskInput]:
        places = partitions_of([key or b"" for key in piece.keys], self._plan.topic_partitions)
        if None in piece.keys:
            places[[i for i, key in enumerate(piece.keys) if key is None]] = 0
        inputs = []
        for task in np.unique(places).tolist():
            mine: list[int] = np.flatnonzero(places == task).tolist()
            tp = TopicPartition(self._plan.stream.topic, task)
            keys = [piece.keys[i] for i in mine]
            values = [piece.rows[i] for i in mine]
            chunk = Chunk(tp, mine, keys, values, [self._now_ms] * len(mine), mine[-1] + 1)
            inputs.append(TaskInput(task, tp, [chunk]))
        return inputs


class NothingStored(RowStore):
    """The store of state that is never flushed: empty."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [None] * len(keys)

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        raise AssertionError("a backtest keeps its state in memory")

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(())

    def snapshot(self, directory: Path) -> None:
        raise AssertionError("a backtest keeps its state in memory")

    def close(self) -> None: ...
