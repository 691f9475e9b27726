"""I3: the state that lies on disks and in checkpoints, against the state after one sequential run.

A ring drops entries when it is full, so equal states need not be equal bytes. Two states are equal if they decide the
same: each is asked about records seen before, and about new ones of every card, on time and late.
"""

from __future__ import annotations

__all__ = ["Record", "judge_states"]

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from operators.deduplicate import Deduplicator
from state.checkpoint import Checkpoints
from state.errors import StateCorruptedError, StreamprocError
from state.memory import MemoryDisk, MemoryRowStores
from state.rowformat import META_KEY
from state.worker_state import WorkerState
from streamproc.eventlog.contract import NO_OFFSET, Chunk, Headers, TopicPartition
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import decode_entry
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.stored_state import LocalMeta
from tests.simulation.pod import DIGEST_KEY, Shared

DAMAGED = -2
_AGAIN = 25
_APART_MS = (1, 20_000, 3_000_000, -1_000, -200_000, -7_200_000)
Answers = dict[int, tuple[bytes, bytes, bytes]]
"""What a task's state says to its probes: the exact digest, the output digest, the ids it remembers."""


class Record(NamedTuple):
    """A committed record."""

    offset: int
    value: bytes
    timestamp: int
    headers: Headers


def judge_states(shared: Shared, disks: Sequence[MemoryDisk], inputs: Mapping[int, list[Record]]) -> list[str]:
    """What is wrong with the stored state of each task, and with its newest checkpoint if that is of the end.

    `disks`: all there are; what lies on one of them, unless damaged since it was read last, is of the end of the input.
    """
    inputs = {task: records for task, records in inputs.items() if records}
    wanted = _reference(shared, inputs)
    wrong: list[str] = []
    found: dict[int, MemoryDisk] = {}
    for task, records in inputs.items():
        end = records[-1].offset + 1
        lying = [(position_of(disk, task), disk) for disk in disks if task in disk.volumes]
        good = [disk for position, disk in lying if position == end]
        if good:
            found[task] = good[-1]
        elif DAMAGED not in [position for position, _ in lying]:
            wrong.append(f"task {task}: its state is of {[at for at, _ in lying]}, the input ends before {end} (I3)")
    wrong += _different(wanted, _answers_of(shared, found, inputs), "stored state")
    if shared.scenario.checkpoint_s and not wrong:
        wrong += _checkpoints(shared, inputs, wanted)
    return wrong


def _checkpoints(shared: Shared, inputs: Mapping[int, list[Record]], wanted: Answers) -> list[str]:
    found: dict[int, MemoryDisk] = {}
    for task, records in inputs.items():
        disk = _copied(shared, task)
        if disk is not None and position_of(disk, task) == records[-1].offset + 1:
            found[task] = disk
    return _different(wanted, _answers_of(shared, found, inputs), "newest checkpoint")


def _answers_of(shared: Shared, disks: Mapping[int, MemoryDisk], inputs: Mapping[int, list[Record]]) -> Answers:
    """What the tasks' states say that lie on these disks."""
    state, deduplicator = shared.state()
    with contextlib.ExitStack() as stack:
        for task, disk in disks.items():
            stores = MemoryRowStores(disk)
            stack.callback(stores.close)
            state.add_task(task, stores.open(task))
        return _answers(shared, state, deduplicator, {task: inputs[task] for task in disks})


def _different(wanted: Answers, found: Answers, what: str) -> list[str]:
    return [f"task {task}: its {what} decides otherwise (I3)" for task in found if found[task] != wanted[task]]


def _reference(shared: Shared, inputs: Mapping[int, list[Record]]) -> Answers:
    """One batch of everything, without any fault."""
    state, deduplicator = shared.state()
    stores = MemoryRowStores(MemoryDisk(shared.rng))
    for task in inputs:
        state.add_task(task, stores.open(task))
    engine = Engine(shared.plan, state, deduplicator, digest_key=DIGEST_KEY)
    given = [_input(shared, task, records) for task, records in inputs.items()]
    engine.compute(given, {one.source: PartitionTask(one.task, one.source) for one in given}, 0)
    engine.publish()
    return _answers(shared, state, deduplicator, inputs)


def _answers(
    shared: Shared, state: WorkerState, deduplicator: Deduplicator, inputs: Mapping[int, list[Record]]
) -> Answers:
    if not inputs:
        return {}
    engine = Engine(shared.plan, state, deduplicator, digest_key=DIGEST_KEY)
    ids = {task: b"".join(deduplicator.canonical(task)) for task in inputs}
    given = [_input(shared, task, _probes(records)) for task, records in inputs.items()]
    computed = engine.compute(given, {one.source: PartitionTask(one.task, one.source) for one in given}, 0)
    answers = {}
    for output in computed.outputs:
        if output.tp.topic == shared.plan.topics.journal:
            assert output.headers
            entry, _, _ = decode_entry(output.headers[0])
            answers[entry.task] = (entry.exact, entry.output, ids[entry.task])
    return answers


def _probes(records: Sequence[Record]) -> list[Record]:
    """Some of the records again, and new ones of each card."""
    newest: dict[str, dict[str, object]] = {}
    for record in records:
        try:
            event = json.loads(record.value)
            newest[str(event["card_id"])] = event | {"lat": 48.85, "lon": 2.35, "amount": 25.1, "ts": 1}
        except (ValueError, TypeError, KeyError):
            continue
    values = [record.value for record in records[-_AGAIN:]]
    for number, card in enumerate(sorted(newest)):
        for apart in _APART_MS:
            time = int(str(newest[card]["event_time"])) + apart
            named = {"transaction_id": f"probe-{number}-{apart}", "event_time": time}
            values.append(json.dumps(newest[card] | named).encode())
    last = records[-1]
    return [Record(last.offset + 1 + i, value, last.timestamp, []) for i, value in enumerate(values)]


def _input(shared: Shared, task: int, records: Sequence[Record]) -> TaskInput:
    tp = TopicPartition(shared.plan.stream.topic, task)
    chunk = Chunk(
        tp, [record.offset for record in records], [None] * len(records), [record.value for record in records],
        [record.timestamp for record in records], records[-1].offset + 1,
    )  # fmt: skip
    return TaskInput(task, tp, [chunk])


def position_of(disk: MemoryDisk, task: int) -> int:
    """The position of the state that lies there; DAMAGED if a bit was flipped and nobody has read it since."""
    stores = MemoryRowStores(disk)
    try:
        meta = dict(stores.open(task).scan(b"")).get(META_KEY)
    except StateCorruptedError:
        return DAMAGED
    finally:
        stores.close()
    return NO_OFFSET if meta is None else LocalMeta.decode(meta).position


def _copied(shared: Shared, task: int) -> MemoryDisk | None:
    """The newest checkpoint on a new disk; None if there is none that is whole: they were damaged on purpose."""
    checkpoints = Checkpoints(shared.blobs, shared.plan.pipeline, nonce=lambda: "0" * 16)
    disk = MemoryDisk(shared.rng)
    try:
        for manifest in checkpoints.checkpoints(task).found[:1]:
            directory = shared.directory / "judge" / str(task)
            shutil.rmtree(directory, ignore_errors=True)
            checkpoints.restore(manifest, directory)
            MemoryRowStores(disk).install(task, directory / "db")
            return disk
    except StreamprocError:
        return None
    return None
