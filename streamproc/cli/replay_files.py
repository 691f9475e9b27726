"""A plan over files: the engine of `run`, fed piece by piece without a log. What `backtest` does, without its dress.

Rows go to tasks by Kafka's hash of their key, as `feed` would send them, so windows and deduplication see what a
run's would. Results come in input order. The record time of all rows is the start of the backtest, as at a feed.
Streams that are not decided are merged in as by a run that finds all their records in the log.
"""

from __future__ import annotations

__all__ = ["FileReplay", "Result"]

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from operators.call import CallSpec
from operators.forks import ForkWriter
from operators.plan import Plan
from operators.timed.alerts import Telling
from state.rowstore import RowStore
from streamproc.cli.calls import Answers, declared_defaults
from streamproc.cli.compose import build_engine
from streamproc.cli.files import Piece, read_file
from streamproc.cli.formats import blocking_schemas
from streamproc.cli.open_windows import open_windows
from streamproc.cli.preparing import prepare
from streamproc.cli.records import Key
from streamproc.cli.side_rows import Pieces, SideLetter, SideRows, merged_chunks, partition_places, rest_of
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.event_times import EventTimes
from streamproc.runtime.results import Judged
from streamproc.runtime.rows import Refused, TaskInput

_END = 1 << 60
"""A time that no record has, ms."""


class Result(NamedTuple):
    """One piece of a file, decided; `judged.rows.offsets` are places in the piece, so is `Refused.offset`.

    `refused`: records that became dead letters, in the file's order. `progress`: bytes of all files so far, about.
    `side_letters`: rows of the streams that are not decided which could not be read meanwhile.
    """

    path: Path
    piece: Piece
    judged: Judged
    refused: Sequence[Refused]
    progress: int
    side_letters: Sequence[SideLetter] = ()


class _Rows(NamedTuple):
    """Rows for a stage; `times`: the log's, ms."""

    offsets: Sequence[int]
    keys: Sequence[Key]
    values: Sequence[bytes | None]
    times: Sequence[int]


class FileReplay:
    """Decides the rows of files, in order, on state of its own that dies with it."""

    def __init__(
        self, plans: Sequence[Plan], sides: Mapping[str, Pieces] | None = None, answers: Answers = declared_defaults
    ) -> None:
        """Args:
            plans: of the stages, in order.
            sides: the pieces of the streams that are not decided, by name; a stream that is left out has no rows.
            answers: in the place of services that are called between stages.

        Raises:
            ConfigError: a plan cannot be executed here.
        """
        self._stages = [_Stage(plan, sides or {}) for plan in plans]
        self._answers = answers
        self._now_ms = time.time_ns() // 1_000_000

    @property
    def side_rows(self) -> dict[str, int]:
        """How many rows of the streams that are not decided were read."""
        return {side.stream.name: side.rows for stage in self._stages for side in stage.sides}

    def run(self, paths: Sequence[Path]) -> Iterator[Result]:
        """Raises ConfigError for a file that cannot be read."""
        done, path = 0, Path()
        for path in paths:
            for piece in read_file(path, self._stages[0].plan.stream):
                judged, refused = self.decide(piece, [self._now_ms] * len(piece.rows))
                yield Result(path, piece, judged, refused, done + piece.progress, self._letters())
            done += path.stat().st_size
        nothing = Piece((), (), (), (), 0)
        for _ in self._rest():  # of whatever stage it was: the last one has no row of it
            judged = self._stages[-1].judge(_Rows((), (), (), ()))
            yield Result(path, nothing, judged, (), done, self._letters())

    def rest(self) -> list[SideLetter]:
        """Bring state forward by what is left of the streams that are not decided; all that they had refused."""
        for _ in self._rest():
            pass
        return self._letters()

    def _rest(self) -> Iterator[Judged]:
        for stage in self._stages:
            yield from stage.rest()

    def told(self) -> list[Telling]:
        """Alerts, and rows too late for them, since the last call; a piece's in input order, stage by stage."""
        return [telling for stage in self._stages for telling in stage.told()]

    def end(self) -> None:
        """No record comes any more: where the clock goes on without, all that waits for time is told."""
        for stage in self._stages:
            stage.end()

    def open_windows(self) -> Counter[str]:
        """Windows and waits that have begun and are not told yet, by the name of their alert or statement."""
        found: Counter[str] = Counter()
        for stage in self._stages:
            found.update(stage.open_windows())
        return found

    def decide(self, piece: Piece, times: Sequence[int], late: Sequence[int] = ()) -> tuple[Judged, list[Refused]]:
        """Decide the records of `piece`, whose log times are `times` (ms), on the state that all before have left.

        `late`: the places of those that are past the deadline; there is no clock that would tell.

        The rows as the last stage has them, and what any of them refused; offsets are places in the piece.
        """
        first, *others = self._stages
        judged = first.judge(_Rows(range(len(piece.rows)), piece.keys, piece.rows, times), late)
        refused, handed = first.refused(judged), first.handed_on(judged, times)
        for stage in others:
            for call in stage.plan.calls:
                if call.source in handed:  # else they have gone several ways from there, this one among them
                    for topic, rows in self._answered(call, _together(handed.pop(call.source))).items():
                        handed[topic] = [rows]
            judged = stage.judge(_together(handed.pop(stage.plan.stream.topic)), late)
            refused += stage.refused(judged)
            for topic, some in stage.handed_on(judged, times).items():
                handed.setdefault(topic, []).extend(some)
        return judged, sorted(refused, key=lambda letter: letter.offset)

    def _answered(self, call: CallSpec, rows: _Rows) -> dict[str, _Rows]:
        """Rows with their answers, by the topics they go to."""
        records = self._answers(call, rows.offsets, cast("Sequence[bytes]", rows.values))
        if call.fork is None:
            return {call.target: rows._replace(values=records)}
        sent = list(zip(*map(ForkWriter(call.fork).write, records), strict=True))
        found = {}
        for (topic, _), way in zip(call.fork.ways, sent or [()] * len(call.fork.ways), strict=True):
            keys = [key if one.route is None else one.route for key, one in zip(rows.keys, way, strict=True)]
            found[topic] = rows._replace(keys=keys, values=[one.record for one in way])
        return found

    def _letters(self) -> list[SideLetter]:
        return [letter for stage in self._stages for side in stage.sides for letter in side.letters()]


class _Stage:
    """One stage, on state of its own."""

    def __init__(self, plan: Plan, sides: Mapping[str, Pieces]) -> None:
        schemas = {stream.topic: blocking_schemas(stream, SystemClock()) for stream in plan.streams}
        known = {topic: found for topic, found in schemas.items() if found is not None}
        self.plan = plan
        self._engine, self._state = build_engine(plan, bytes(32), schemas=known)
        prepare(self._engine, lambda what: sys.stderr.write(f"{what}\n"))
        self._told: list[Telling] = []
        for task in range(plan.topic_partitions):
            self._state.add_task(task, NothingStored())
        self._times, *times = [EventTimes(decoder, stream).of for decoder, stream in self._engine.decoders]
        self.sides = [
            SideRows(stream, plan.topic_partitions, its_times, sides.get(stream.name, iter(())))
            for stream, its_times in zip(plan.others, times, strict=True)
        ]

    def judge(self, rows: _Rows, late: Sequence[int] = ()) -> Judged:
        """Decide rows of the stream that is decided; what comes before them of the others brings state forward."""
        places = partition_places(rows.keys, self.plan.topic_partitions)
        inputs = []
        for task in np.unique(places).tolist():
            mine: list[int] = np.flatnonzero(places == task).tolist()
            tp = TopicPartition(self.plan.stream.topic, task)
            offsets, keys = [rows.offsets[i] for i in mine], [rows.keys[i] for i in mine]
            logged = [rows.times[i] for i in offsets]
            chunk = Chunk(tp, offsets, keys, [rows.values[i] for i in mine], logged, offsets[-1] + 1)
            chunks = merged_chunks(chunk, self._times(chunk), self.sides, task) if self.sides else [chunk]
            inputs.append(TaskInput(task, tp, chunks))
        return self._judge(inputs, late)

    def rest(self) -> Iterator[Judged]:
        """Bring state forward by what comes behind all rows; nothing is decided by it."""
        while any(not side.ended or side.tasks for side in self.sides):
            for side in self.sides:
                side.read()
            tasks = sorted({task for side in self.sides for task in side.tasks})
            merged = {TopicPartition(self.plan.stream.topic, task): rest_of(self.sides, task) for task in tasks}
            yield self._judge([TaskInput(tp.partition, tp, chunks) for tp, chunks in merged.items() if chunks])

    def _judge(self, inputs: list[TaskInput], late: Sequence[int] = ()) -> Judged:
        rows = self._engine.decode(inputs)
        if late:
            decided = rows.streams is None or rows.streams == 0
            rows.late = np.isin(rows.offsets, late) & decided
        judged = self._engine.judge(rows, attempts_max=rows.size)  # nobody waits
        self._engine.publish()
        self._engine.make_room()
        for side in self.sides:
            side.refused(judged.rows.refused)
        self._told += self._in_order(judged)
        return judged

    def _in_order(self, judged: Judged) -> list[Telling]:
        """What was told, in the order of the rows that were read; where streams are merged, task by task."""
        found = self._engine.tellings(judged)
        if judged.merged is not None:
            return found
        places = [*judged.rows.offsets[judged.fresh].tolist(), _END]
        return sorted(found, key=lambda telling: places[telling.row])

    def told(self) -> list[Telling]:
        """Alerts, and rows too late for them, since the last call."""
        found, self._told = self._told, []
        return found

    def open_windows(self) -> dict[str, int]:
        """See `FileReplay.open_windows`."""
        return open_windows(self.plan, self._state)

    def end(self) -> None:
        """See `FileReplay.end`."""
        if self.plan.idle_ms:
            sources = [TopicPartition(self.plan.stream.topic, task) for task in range(self.plan.topic_partitions)]
            waits = [source for source in sources if self._engine.waits(source.partition) is not None]
            self._judge([TaskInput(at.partition, at, [Chunk(at, [], [], [], [], 0)], _END) for at in waits])

    def refused(self, judged: Judged) -> list[Refused]:
        """The rows of the stream that is decided which were refused."""
        return [letter for letter in judged.rows.refused if letter.topic in ("", self.plan.stream.topic)]

    def handed_on(self, judged: Judged, times: Sequence[int]) -> dict[str, list[_Rows]]:
        """Rows for the next stages, in the order of their places, by topic; `times`: the log's, by place."""
        if self.plan.handoff is None:
            return {}
        found: dict[str, list[_Rows]] = {}
        places = judged.rows.offsets
        order = np.argsort(places).tolist()
        for routes, texts, topic in self._engine.hand_on_everywhere(judged):
            keys = [routes[i].encode() for i in order]
            found[topic] = [_Rows(places[order].tolist(), keys, [texts[i] for i in order], times)]
        offsets, (routes, texts, topic) = self._engine.marks(judged)
        if offsets:
            found.setdefault(topic, []).append(_Rows(offsets, list(map(str.encode, routes)), texts, times))
        return found


def _together(parts: Sequence[_Rows]) -> _Rows:
    """What several stages have handed on to one, in the order of the places."""
    if len(parts) == 1:
        return parts[0]
    rows = [row for part in parts for row in zip(part.offsets, part.keys, part.values, strict=True)]
    rows.sort(key=lambda row: row[0])
    return _Rows([at for at, _, _ in rows], [key for _, key, _ in rows], [one for *_, one in rows], parts[0].times)


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
