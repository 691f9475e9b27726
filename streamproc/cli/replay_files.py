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
from streamproc.runtime.engine import Engine
from streamproc.runtime.results import Judged
from streamproc.runtime.rows import Refused, TaskInput, decode_rows


class Result(NamedTuple):
    """One piece of a file, decided; `judged.rows.offsets` are places in the piece, so is `Refused.offset`.

    `refused`: records that became dead letters, in the file's order. `progress`: bytes of all files so far, about.
    """

    path: Path
    piece: Piece
    judged: Judged
    refused: Sequence[Refused]
    progress: int


class FileReplay:
    """Decides the rows of files, in order, on state of its own that dies with it."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: of the stages, in order. Raises ConfigError if one cannot be executed here."""
        self._plans = plans
        self._engines: list[Engine] = []
        for plan in plans:
            schemas = blocking_schemas(plan.stream, SystemClock())
            engine, state = build_engine(plan, bytes(32), schemas=schemas)
            for task in range(plan.topic_partitions):
                state.add_task(task, NothingStored())
            self._engines.append(engine)
        self._now_ms = time.time_ns() // 1_000_000

    def run(self, paths: Sequence[Path]) -> Iterator[Result]:
        """Raises ConfigError for a file that cannot be read."""
        done = 0
        for path in paths:
            for piece in read_file(path, self._plans[0].stream):
                judged, refused = self.decide(piece, [self._now_ms] * len(piece.rows))
                yield Result(path, piece, judged, refused, done + piece.progress)
            done += path.stat().st_size

    def decide(self, piece: Piece, times: Sequence[int]) -> tuple[Judged, list[Refused]]:
        """Decide the records of `piece`, whose log times are `times` (ms), on the state that all before have left.

        The rows as the last stage has them, and what any of them refused; offsets are places in the piece.
        """
        inputs = self._inputs(self._plans[0], range(len(piece.rows)), piece.keys, piece.rows, times)
        judged = self._judge(self._engines[0], inputs)
        refused = judged.rows.refused
        for plan, before, engine in zip(self._plans[1:], self._engines, self._engines[1:], strict=False):
            routes, texts = before.hand_on(judged)
            places = judged.rows.offsets
            order = np.argsort(places).tolist()
            keys, values = [routes[i].encode() for i in order], [texts[i] for i in order]
            judged = self._judge(engine, self._inputs(plan, places[order].tolist(), keys, values, times))
            refused = refused + judged.rows.refused
        return judged, sorted(refused, key=lambda letter: letter.offset)

    def _judge(self, engine: Engine, inputs: list[TaskInput]) -> Judged:
        rows = decode_rows(engine.decoder, inputs)
        judged = engine.judge(rows, attempts_max=rows.size)  # nobody waits
        engine.publish()
        return judged

    def _inputs(
        self, plan: Plan, offsets: Sequence[int], keys: Sequence[bytes | None], values: Sequence[bytes | None],
        times: Sequence[int],
    ) -> list[TaskInput]:  # fmt: skip
        """`times`: by offset."""
        places = partitions_of([key or b"" for key in keys], plan.topic_partitions)
        if None in keys:
            places[[i for i, key in enumerate(keys) if key is None]] = 0
        inputs = []
        for task in np.unique(places).tolist():
            mine: list[int] = np.flatnonzero(places == task).tolist()
            tp = TopicPartition(plan.stream.topic, task)
            its = [offsets[i] for i in mine]
            chunk = Chunk(
                tp, its, [keys[i] for i in mine], [values[i] for i in mine], [times[i] for i in its], its[-1] + 1
            )
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
