"""What `repartition` does: checks that the old pipeline is at its end, moves its state, begins the new one.

1. all input is decided, and the new pipeline has not begun
2. old state: local, or its newest checkpoint, each at exactly what is committed
3. rows are moved into a folder of their own and read again: `state.repartition`, `state.audit`
4. copies go to the checkpoint store; the folder gets the new pipeline's name
5. one transaction begins the new pipeline

A kill before 5 leaves the new pipeline unbegun, and the old one as it was: the same again completes it.
"""

from __future__ import annotations

__all__ = ["Report", "repartition"]

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from operators.deduplicate import Deduplicator
from operators.plan import Plan
from state.audit import damages
from state.checkpoint import Checkpoints, Cut
from state.errors import ConfigError, StateCorruptedError
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
    """What was moved. `keys` by table, `ids` with their copies, `ids_reused`: by payloads of several old tasks.

    `set_aside`: databases that lay in the new pipeline's place, which had not begun.
    """

    old: str
    new: str
    partitions: tuple[int, int]
    keys: dict[str, int]
    ids: int
    ids_reused: int
    set_aside: int


async def repartition(old: Plan, new: Plan, log_url: str, state: Path, checkpoints: str | None) -> Report:
    """Steps 1 to 5.

    Raises:
        ConfigError: something is not as it must be; nothing was begun.
        StateCorruptedError: the state is damaged, or came out otherwise; nothing was begun.
    """
    log = prepared_log(open_log(log_url), old.streams, {})
    try:
        partitions, endings = await end_of_generation(log, old)  # 1
        clock = SystemClock()
        beginnings = await plan_generation(log, new, endings, clock)
        mover = _Mover(old, new, state, checkpoints)
        report = await asyncio.to_thread(mover.run, partitions, endings, beginnings)  # 2-4
        await begin_generation(log, new, beginnings, clock)  # 5
    finally:
        await log.close()
    return report


class _Mover:
    """Steps 2 to 4; blocks."""

    def __init__(self, old: Plan, new: Plan, state: Path, checkpoints: str | None) -> None:
        self._old, self._new = old, new
        self._state = state
        self._home = state / new.pipeline
        self._work = state / f"{new.pipeline}.repartition"
        self._blobs = open_blobs(checkpoints) if checkpoints is not None else None

    def run(self, partitions: int, endings: Mapping[int, Ending], beginnings: Sequence[Beginning]) -> Report:
        shutil.rmtree(self._work, ignore_errors=True)  # of a run that was killed
        try:
            with ExitStack() as stack:
                found = {task: self._source(stack, task, ending) for task, ending in sorted(endings.items())}
                targets = RocksRowStores(self._work / "new")
                stack.callback(targets.close)
                stores = {
                    beginning.source.partition: targets.open(beginning.source.partition) for beginning in beginnings
                }
                move = self._moved(found, stores, partitions)  # 3
                for beginning in beginnings:
                    task = beginning.source.partition
                    stores[task].write([(META_KEY, beginning.meta.encode())], [])
                    for damage in damages(stores[task], self._new.tables, empty_parts(self._new)):
                        raise StateCorruptedError(f"task {task} after repartitioning: {damage}")
                    self._copy(task, beginning.meta, stores[task])  # 4
            set_aside = self._install(targets)
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
        sizes = (partitions, len(beginnings))
        return Report(self._old.pipeline, self._new.pipeline, sizes, move.keys, move.entries, move.reused, set_aside)

    def _moved(self, sources: Mapping[int, RowStore], targets: Mapping[int, RowStore], partitions: int) -> Repartition:
        stream = self._new.stream
        hashed = stream.field(stream.key).pan  # the producer's key is not known, only its keyed hash
        moved = frozenset(spec.name for spec in self._new.tables if spec.key == stream.key and not hashed)
        ids = None
        if stream.deduplicate_ms:
            part = Deduplicator(stream.deduplicate_ms)
            ids = IdsSpec(part.name, part.fingerprint, part.horizon_ms)
        move = Repartition(sources, targets, partitions, tables=self._new.tables, moved=moved, ids=ids)
        move.run()
        move.check()
        return move

    # ---- 2

    def _source(self, stack: ExitStack, task: int, ending: Ending) -> RocksRowStore:
        """The old state of a task at its end: the local one, else a checkpoint."""
        home = self._state / self._old.pipeline
        if home.is_dir():
            stores = RocksRowStores(home)
            if task in stores.tasks():
                store = stores.look(task)
                stack.callback(store.close)
                if self._fits(store, ending):
                    return store
        if self._blobs is not None:
            checkpoints = Checkpoints(self._blobs, self._old.pipeline)
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
            f"no state of task {task} of {self._old.pipeline} stands where its committed offsets do",
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

    def _install(self, made: RocksRowStores) -> int:
        """The closed databases get the new pipeline's name; how many were there, of an attempt that was killed."""
        home = RocksRowStores(self._home)
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
        Checkpoints(self._blobs, self._new.pipeline).write(task, cut, work)
