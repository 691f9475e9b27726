"""What `repartition` does: checks that the old pipeline is at its end, moves its state, begins the new one.

1. all input of all stages is decided, and the new pipeline has not begun
2. old state: local, or its newest checkpoint, each at exactly what is committed
3. rows are moved into a folder of their own and read again: `state.repartition`, `state.audit`
4. copies go to the checkpoint store; the folder gets the new pipeline's name
5. one transaction begins the new pipeline, all stages of it

A kill before 5 leaves the new pipeline unbegun, and the old one as it was: the same again completes it.
"""

from __future__ import annotations

__all__ = ["Report", "repartition"]

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from operators.deduplicate import Deduplicator
from operators.plan import Plan
from state.audit import damages
from state.blobs import BlobStore
from state.checkpoint import Checkpoints, Cut
from state.errors import ConfigError, StateCorruptedError
from state.held import HELD_ROWS
from state.objectstore import open_blobs
from state.repartition import IdsSpec, Repartition
from state.rocksdb import RocksRowStore, RocksRowStores
from state.rowformat import META_KEY
from state.rowstore import RowStore
from streamproc.cli.compose import open_log
from streamproc.cli.formats import prepared_log
from streamproc.cli.state_looks import empty_parts
from streamproc.clock import SystemClock
from streamproc.runtime.generation import Beginning, Ending, begin_generation, end_of_generation, plan_generation
from streamproc.runtime.stored_state import LocalMeta


class Report(msgspec.Struct):
    """What was moved. `keys` by table (of several stages: STAGE.TABLE), `ids` with their copies, `ids_reused`: by
    payloads of several old tasks.

    `set_aside`: databases that lay in the new pipeline's place, which had not begun.
    """

    old: str
    new: str
    partitions: tuple[int, int]
    keys: dict[str, int]
    ids: int
    ids_reused: int
    set_aside: int


async def repartition(
    old: Sequence[Plan], new: Sequence[Plan], log_url: str, state: Path, checkpoints: str | None
) -> Report:
    """Steps 1 to 5, for all stages of a pipeline.

    Raises:
        ConfigError: something is not as it must be; nothing was begun.
        StateCorruptedError: the state is damaged, or came out otherwise; nothing was begun.
    """
    log = prepared_log(open_log(log_url), old[0].streams, {})
    try:
        partitions, clock = 0, SystemClock()
        endings: list[Mapping[int, Ending]] = []
        for plan in old:  # 1
            partitions, ended = await end_of_generation(log, plan)
            endings.append(ended)
        beginnings = await plan_generation(log, new, endings, clock)
        movers = await asyncio.to_thread(_movers, old, new, state, checkpoints)
        reports = await asyncio.to_thread(_moved, movers, partitions, endings, beginnings)  # 2-4
        await begin_generation(log, new, [task for stage in beginnings for task in stage], clock)  # 5
    finally:
        await log.close()
    return _joined(reports, [plan.stage for plan in new])


class _Places(NamedTuple):
    """Where state lies, and copies of it."""

    state: Path
    blobs: BlobStore | None


def _movers(old: Sequence[Plan], new: Sequence[Plan], state: Path, checkpoints: str | None) -> list[_Mover]:
    """One a stage. Blocks."""
    places = _Places(state, None if checkpoints is None else open_blobs(checkpoints))
    return [_Mover(before, after, after.partition_by, places) for before, after in zip(old, new, strict=True)]


def _moved(
    movers: Sequence[_Mover], partitions: int, endings: Sequence[Mapping[int, Ending]],
    beginnings: Sequence[Sequence[Beginning]],
) -> list[Report]:  # fmt: skip
    """Steps 2 to 4. Nothing is in its place before all stages' state is made. Blocks."""
    try:
        made = [
            mover.run(partitions, ended, begun) for mover, ended, begun in zip(movers, endings, beginnings, strict=True)
        ]
        return [
            msgspec.structs.replace(report, set_aside=mover.install())
            for mover, report in zip(movers, made, strict=True)
        ]
    finally:
        shutil.rmtree(movers[0].folder, ignore_errors=True)


def _joined(reports: Sequence[Report], stages: Sequence[str]) -> Report:
    """One report of a pipeline's stages."""
    if len(reports) == 1:
        return reports[0]
    keys = {
        f"{stage}.{table}": count
        for stage, report in zip(stages, reports, strict=True)
        for table, count in report.keys.items()
    }
    ids, reused = sum(report.ids for report in reports), sum(report.ids_reused for report in reports)
    return msgspec.structs.replace(
        reports[0], keys=keys, ids=ids, ids_reused=reused, set_aside=sum(report.set_aside for report in reports)
    )


class _Mover:
    """Steps 2 to 4 of a stage, whose records are partitioned by `key`; blocks."""

    def __init__(self, old: Plan, new: Plan, key: str, places: _Places) -> None:
        self._old, self._new, self._key = old, new, key
        self._state, self._blobs = places
        self.folder = places.state / f"{new.pipeline}.repartition"
        self._work = self.folder / new.stage

    def run(self, partitions: int, endings: Mapping[int, Ending], beginnings: Sequence[Beginning]) -> Report:
        """All of it but what puts the state into its place."""
        shutil.rmtree(self._work, ignore_errors=True)  # of a run that was killed
        with ExitStack() as stack:
            found = {task: self._source(stack, task, ending) for task, ending in sorted(endings.items())}
            for task, store in found.items():
                self._check_held(task, store)
            targets = RocksRowStores(self._work / "new")
            stack.callback(targets.close)
            stores = {task.source.partition: targets.open(task.source.partition) for task in beginnings}
            move = self._moved(found, stores, partitions)  # 3
            for beginning in beginnings:
                task = beginning.source.partition
                stores[task].write([(META_KEY, beginning.meta.encode())], [])
                for damage in damages(stores[task], self._new.tables, empty_parts(self._new)):
                    raise StateCorruptedError(f"task {task} after repartitioning: {damage}")
                self._copy(task, beginning.meta, stores[task])  # 4
        sizes = (partitions, len(beginnings))
        return Report(self._old.pipeline, self._new.pipeline, sizes, move.keys, move.entries, move.reused, 0)

    def _check_held(self, task: int, source: RowStore) -> None:
        """Nothing waits where all stages are at their end: what does would wait for ever."""
        if self._old.gather is not None and next(source.scan(HELD_ROWS), None) is not None:
            raise ConfigError(
                f"task {task} of {self._old.home} holds rows of which parts are missing",
                hint="`run` the old pipeline until they have come, or are given up",
            )

    def _moved(self, sources: Mapping[int, RowStore], targets: Mapping[int, RowStore], partitions: int) -> Repartition:
        stream = self._new.stream
        hashed = stream.field(self._key).pan  # the producer's key is not known, only its keyed hash
        moved = frozenset(spec.name for spec in self._new.tables if spec.key == self._key and not hashed)
        ids = None
        if stream.deduplicate_ms:
            part = Deduplicator(stream.deduplicate_ms, actions=self._new.decision.actions)
            ids = IdsSpec(part.name, part.fingerprint, part.horizon_ms, part.actions)
        move = Repartition(sources, targets, partitions, tables=self._new.tables, moved=moved, ids=ids)
        move.run()
        move.check()
        return move

    # ---- 2

    def _source(self, stack: ExitStack, task: int, ending: Ending) -> RocksRowStore:
        """The old state of a task at its end: the local one, else a checkpoint."""
        home = self._state / self._old.home
        if home.is_dir():
            stores = RocksRowStores(home)
            if task in stores.tasks():
                store = stores.look(task)
                stack.callback(store.close)
                if self._fits(store, ending):
                    return store
        if self._blobs is not None:
            checkpoints = Checkpoints(self._blobs, self._old.home)
            for manifest in checkpoints.checkpoints(task).found:
                if (manifest.cut.sequence, manifest.cut.chain) == (ending.head.sequence, ending.head.chain):
                    work = self._work / f"restored-{manifest.name}"
                    try:
                        checkpoints.restore(manifest, work)
                    except StateCorruptedError:
                        continue  # another one may be of the same moment
                    restored = RocksRowStores(self._work / "old")
                    restored.install(task, work / "db")
                    store = restored.look(task)
                    stack.callback(store.close)
                    if self._fits(store, ending):
                        return store
        raise ConfigError(
            f"no state of task {task} of {self._old.home} stands where its committed offsets do",
            hint="`run` the old pipeline with --until-end once more, or name its --state and --checkpoints",
        )

    def _fits(self, store: RocksRowStore, ending: Ending) -> bool:
        stored = store.get_many([META_KEY])[0]
        if stored is None:
            return False
        meta = LocalMeta.decode(stored)
        if meta.state_fingerprint != self._old.state_fingerprint:
            raise ConfigError("the old pipeline's state was written by another plan", hint="give the file that it ran")
        return (meta.sequence, meta.chain, meta.position) == (ending.head.sequence, ending.head.chain, ending.position)

    # ---- 4

    def install(self) -> int:
        """The closed databases get the new pipeline's name; how many were there, of an attempt that was killed."""
        home, made = RocksRowStores(self._state / self._new.home), RocksRowStores(self._work / "new")
        leftover = home.tasks()
        for task in leftover:
            home.discard(task)
        for task in made.tasks():
            home.install(task, made.path(task))
        return len(leftover)

    def _copy(self, task: int, meta: LocalMeta, store: RowStore) -> None:
        if self._blobs is None:
            return
        work = self._work / f"checkpoint-{task}"
        work.mkdir(parents=True)
        store.snapshot(work / "db")
        cut = Cut(
            sequence=meta.sequence, chain=meta.chain, position=meta.position,
            state_fingerprint=meta.state_fingerprint, meta=meta.encode(),
        )  # fmt: skip
        Checkpoints(self._blobs, self._new.home).write(task, cut, work)
