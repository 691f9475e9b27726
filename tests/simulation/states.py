"""I3: the state that lies on disks and in checkpoints, against the state after one sequential run.

A ring drops entries when it is full, so equal states need not be equal bytes. Two states are equal if they decide the
same: each is asked about records seen before, and about new ones of every card, on time and late.
"""

from __future__ import annotations

__all__ = ["judge_states"]

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np

from operators.deduplicate import Deduplicator
from operators.plan import ROUTE
from state.checkpoint import Checkpoints
from state.errors import StateCorruptedError, StreamprocError
from state.held import HeldRows
from state.memory import MemoryDisk, MemoryRowStores
from state.rowformat import META_KEY
from state.worker_state import WorkerState
from streamproc.cli.compose import gatherer_of
from streamproc.eventlog.contract import NO_OFFSET, Chunk, TopicPartition
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import decode_entry
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.stored_state import LocalMeta
from tests.oracle.hand_on import KEYS
from tests.simulation.committed import Record
from tests.simulation.parts import in_parts, whole_rows
from tests.simulation.pod import DIGEST_KEY, Shared, StageStores

DAMAGED = -2
_AGAIN = 25
_APART_MS = (1, 20_000, 3_000_000, -1_000, -200_000, -7_200_000)
Answers = dict[int, tuple[bytes, bytes, bytes]]
"""What a task's state says to its probes: the exact digest, the output digest, the ids it remembers and the rows it
has parts of.
"""
_Parts = tuple[WorkerState, Deduplicator, HeldRows | None]


def judge_states(
    shared: Shared, stage: int, disks: Sequence[MemoryDisk], inputs: Mapping[int, list[Record]],
    late: Mapping[int, Set[int]], versions: Mapping[int, Sequence[tuple[int, int]]],
) -> list[str]:  # fmt: skip
    """What is wrong with the stored state of a stage's tasks, and with its newest checkpoint if that is of the end.

    `disks`: all there are; what lies on one of them, unless damaged since it was read last, is of the end of the input.
    `late`: the offsets that were decided past their deadline, by task; `versions`: by which table, see `Limits`.
    """
    inputs = {task: records for task, records in inputs.items() if records}
    one = _Stage(shared, stage)
    wanted = one.reference(inputs, late, versions)
    wrong: list[str] = []
    found: dict[int, MemoryDisk] = {}
    for task in inputs:
        end = one.end(task)
        lying = [(one.position_of(disk, task), disk) for disk in disks if one.volume(task) in disk.volumes]
        good = [disk for position, disk in lying if position == end]
        if good:
            found[task] = good[-1]
        elif DAMAGED not in [position for position, _ in lying]:
            wrong.append(f"{one.name} {task}: its state is of {[at for at, _ in lying]}, not of {end} (I3)")
    wrong += one.different(wanted, one.answers_of(found, inputs), "stored state")
    if shared.scenario.checkpoint_s and not wrong:
        wrong += _checkpoints(one, inputs, wanted)
    return wrong


def _checkpoints(one: _Stage, inputs: Mapping[int, list[Record]], wanted: Answers) -> list[str]:
    found: dict[int, MemoryDisk] = {}
    for task in inputs:
        disk = one.copied(task)
        if disk is not None and one.position_of(disk, task) == one.end(task):
            found[task] = disk
    return one.different(wanted, one.answers_of(found, inputs), "newest checkpoint")


class _Stage:
    """What is asked of one stage's state."""

    def __init__(self, shared: Shared, stage: int) -> None:
        self._shared, self._number, self._plan = shared, stage, shared.plans[stage]
        self.name = shared.name(self._plan)

    def volume(self, task: int) -> int:
        """Where its tasks lie on disks."""
        return self._shared.volumes()[self._number * self._shared.scenario.partitions + task]

    def end(self, task: int) -> int:
        """Up to which offset the group has decided; how that fits the input is the journal's judge's."""
        offset = self._shared.cluster.group(self._shared.pipeline).offsets.get(self._source(task))
        return NO_OFFSET if offset is None else offset.offset

    def answers_of(self, disks: Mapping[int, MemoryDisk], inputs: Mapping[int, list[Record]]) -> Answers:
        """What the tasks' states say that lie on these disks."""
        empty = self._shared.state(self._number)
        with contextlib.ExitStack() as stack:
            for task, disk in disks.items():
                stores = MemoryRowStores(disk)
                stack.callback(stores.close)
                empty[0].add_task(task, StageStores(stores, self._number).open(task))
            return self._answers(empty, {task: inputs[task] for task in disks})

    def different(self, wanted: Answers, found: Answers, what: str) -> list[str]:
        """In words."""
        return [
            f"{self.name} {task}: its {what} decides otherwise (I3)" for task in found if found[task] != wanted[task]
        ]

    def reference(
        self, inputs: Mapping[int, list[Record]], late: Mapping[int, Set[int]],
        versions: Mapping[int, Sequence[tuple[int, int]]],
    ) -> Answers:  # fmt: skip
        """One batch of everything that was decided by equal tables, without any fault."""
        empty = self._shared.state(self._number)
        stores = MemoryRowStores(MemoryDisk(self._shared.rng))
        for task in inputs:
            empty[0].add_task(task, stores.open(task))
        engine = self._engine(empty)
        for given in self._batches(inputs, versions):
            rows = engine.decode(given)
            spans = [(late[span.task], rows.offsets[span.start : span.stop].tolist()) for span in rows.spans]
            rows.late = np.array([offset in flagged for flagged, offsets in spans for offset in offsets], np.bool_)
            engine.judge(rows, attempts_max=rows.size)
            engine.publish()
        return self._answers(empty, inputs)

    def _batches(
        self, inputs: Mapping[int, list[Record]], versions: Mapping[int, Sequence[tuple[int, int]]]
    ) -> Iterator[list[TaskInput]]:
        """Its tables change between two of them."""
        live = self._plan.live
        if live is None:
            yield [self._input(task, records) for task, records in inputs.items()]
            return
        for task, records in inputs.items():
            start = 0
            for stop, version in versions[task]:
                (table,) = live.tables
                live.put(table.topic, self._shared.limits.table(table.schema, version), version)
                live.apply()
                if some := [record for record in records if start <= record.offset < stop]:
                    yield [self._input(task, some)]
                start = stop

    def _engine(self, parts: _Parts) -> Engine:
        state, deduplicator, held = parts
        gatherer = gatherer_of(self._plan, held)
        return Engine(self._plan, state, deduplicator, digest_key=DIGEST_KEY, gatherer=gatherer)

    def _answers(self, parts: _Parts, inputs: Mapping[int, list[Record]]) -> Answers:
        if not inputs:
            return {}
        engine = self._engine(parts)
        ids = {task: b"".join(chunk for part in parts[1:] if part for chunk in part.canonical(task)) for task in inputs}
        key = KEYS[self._plan.stage]
        probes = {task: _probes(whole_rows(self._plan, records), key) for task, records in inputs.items()}
        given = [self._input(task, in_parts(self._plan, records)) for task, records in probes.items()]
        computed = engine.compute(given, {one.source: PartitionTask(one.task, one.source) for one in given}, 0)
        answers = {}
        for output in computed.outputs:
            if output.tp.topic == self._plan.topics.journal:
                assert output.headers
                entry, _, _ = decode_entry(output.headers[0])
                answers[entry.task] = (entry.exact, entry.output, ids[entry.task])
        return answers

    def _source(self, task: int) -> TopicPartition:
        return TopicPartition(self._plan.stream.topic, task)

    def _input(self, task: int, records: Sequence[Record]) -> TaskInput:
        chunk = Chunk(
            self._source(task), [record.offset for record in records], [None] * len(records),
            [record.value for record in records], [record.timestamp for record in records], records[-1].offset + 1,
        )  # fmt: skip
        return TaskInput(task, chunk.tp, [chunk])

    def position_of(self, disk: MemoryDisk, task: int) -> int:
        """The position of the state that lies there; DAMAGED if a bit was flipped and nobody has read it since."""
        stores = MemoryRowStores(disk)
        try:
            meta = dict(StageStores(stores, self._number).open(task).scan(b"")).get(META_KEY)
        except StateCorruptedError:
            return DAMAGED
        finally:
            stores.close()
        return NO_OFFSET if meta is None else LocalMeta.decode(meta).position

    def copied(self, task: int) -> MemoryDisk | None:
        """The newest checkpoint on a new disk; None if there is none that is whole: they were damaged on purpose."""
        checkpoints = Checkpoints(self._shared.blobs, self._shared.home(self._number), nonce=lambda: "0" * 16)
        disk = MemoryDisk(self._shared.rng)
        try:
            for manifest in checkpoints.checkpoints(task).found[:1]:
                directory = self._shared.directory / "judge" / str(self.volume(task))
                shutil.rmtree(directory, ignore_errors=True)
                checkpoints.restore(manifest, directory)
                StageStores(MemoryRowStores(disk), self._number).install(task, directory / "db")
                return disk
        except StreamprocError:
            return None
        return None


def _written(row: dict[str, object]) -> bytes:
    """As a stage writes it: without blanks, the route last."""
    last = {ROUTE: row[ROUTE]} if ROUTE in row else {}
    return json.dumps({name: row[name] for name in row if name != ROUTE} | last, separators=(",", ":")).encode()


def _probes(records: Sequence[Record], key: str) -> list[Record]:
    """Some of the records again, and new ones of each key."""
    newest: dict[str, dict[str, object]] = {}
    for record in records:
        try:
            event = json.loads(record.value)
            newest[str(event[key])] = event | {"lat": 48.85, "lon": 2.35, "amount": 25.1, "ts": 1}
        except (ValueError, TypeError, KeyError):
            continue
    values = [record.value for record in records[-_AGAIN:]]
    for number, name in enumerate(sorted(newest)):
        for apart in _APART_MS:
            time = int(str(newest[name]["event_time"])) + apart
            named = {"transaction_id": f"probe-{number}-{apart}", "event_time": time}
            values.append(_written(newest[name] | named))
    last = records[-1]
    return [Record(last.offset + 1 + i, value, last.timestamp, []) for i, value in enumerate(values)]
