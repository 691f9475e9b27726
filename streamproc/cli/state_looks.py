"""What `state inspect` and `state verify` read: tasks' local state, one after the other, locked and never changed."""

from __future__ import annotations

__all__ = ["TaskLook", "check_local", "compare", "empty_parts", "local_stores", "look_at"]

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from operators.plan import Plan
from state.audit import Survey, TableCount, damages, survey
from state.errors import ConfigError, StateCorruptedError, StateLockedError
from state.part import StatePart
from state.rocksdb import RocksRowStore, RocksRowStores
from state.rowformat import META_KEY
from streamproc.cli.compose import deduplicators_of, held_of, open_log
from streamproc.eventlog.contract import TopicPartition
from streamproc.runtime.stored_state import LocalMeta

R = TypeVar("R")


class TaskLook(msgspec.Struct):
    """What lies in a task's directory. Positions are None before the first flush, and where `damage` hides them.

    `plan`: whether the state's fingerprint is the pipeline's; `chain`: the chain head, hex; `committed` and `behind`
    (records) only with a log.
    """

    stage: str
    task: int
    sequence: int | None = None
    position: int | None = None
    chain: str | None = None
    plan: bool | None = None
    partitions: int | None = None
    rows: int = 0
    tables: list[TableCount] = []
    entries: int = 0
    bytes: int = 0
    discarded: int = 0
    damage: str | None = None
    committed: int | None = None
    behind: int | None = None


def local_stores(plan: Plan, state: Path) -> RocksRowStores:
    """The stage's tasks below a state directory; none of it is made.

    Raises:
        ConfigError: it is not there.
    """
    if not state.is_dir():
        raise ConfigError(f"--state: there is no directory {state}", hint="`run --state DIR` makes it")
    home = state / plan.home
    if not home.is_dir():
        raise ConfigError(
            f"--state: there is no state of pipeline {plan.home} in {state}",
            hint="name what `run --state` was given",
        )
    return RocksRowStores(home)


def look_at(plan: Plan, stores: RocksRowStores) -> Iterator[TaskLook]:
    """Each task in turn.

    Raises:
        StateLockedError: a worker has it.
    """
    for task in stores.tasks():
        look = TaskLook(plan.stage, task, bytes=stores.bytes_on_disk(task), discarded=len(stores.discarded(task)))
        try:
            _fill(look, plan, _reading(stores, task, survey))
        except StateCorruptedError as error:
            look.damage = str(error)
        yield look


def _fill(look: TaskLook, plan: Plan, found: Survey) -> None:
    look.rows, look.entries = found.rows, found.entries
    look.tables = sorted(found.tables.values(), key=lambda table: table.name)
    if found.meta is not None:
        meta = LocalMeta.decode(found.meta)
        look.sequence, look.position, look.chain = meta.sequence, meta.position, meta.chain.hex()
        look.plan, look.partitions = meta.state_fingerprint == plan.state_fingerprint, meta.partitions


async def compare(plan: Plan, url: str, looks: Sequence[TaskLook]) -> None:
    """What the group has committed, and how many records the state is behind it (less than 0: of another history)."""
    log = open_log(url)
    try:
        sources = [TopicPartition(plan.stream.topic, look.task) for look in looks]
        committed = await log.admin().committed(plan.pipeline, sources)
        for look, source in zip(looks, sources, strict=True):
            if source in committed:
                look.committed = committed[source].offset
                if look.position is not None:
                    look.behind = look.committed - look.position
    finally:
        await log.close()


def check_local(plan: Plan, stores: RocksRowStores) -> Iterator[tuple[int, list[str]]]:
    """Each task and what is wrong with it.

    Raises:
        ConfigError: a worker has it, or another plan wrote it.
    """
    for task in stores.tasks():
        try:
            yield task, _reading(stores, task, lambda store: _wrong(plan, store))
        except StateCorruptedError as error:
            yield task, [str(error)]


def _wrong(plan: Plan, store: RocksRowStore) -> list[str]:
    found = list(damages(store, plan.tables, empty_parts(plan)))
    try:
        meta = store.get_many([META_KEY])[0]
        if meta is not None:
            LocalMeta.decode(meta)
    except StateCorruptedError as error:
        found.append(str(error))
    return list(dict.fromkeys(found))


def empty_parts(plan: Plan) -> list[StatePart]:
    """The parts of the plan's state that are no tables."""
    return [part for part in (*deduplicators_of(plan), held_of(plan)) if part is not None]


def _reading(stores: RocksRowStores, task: int, read: Callable[[RocksRowStore], R]) -> R:
    try:
        store = stores.look(task)
    except StateLockedError as error:
        raise StateLockedError(
            error.message, hint="stop that worker first: its files change while they are read"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"--state: {stores.directory} cannot be locked: {error.strerror}",
            hint="run this as the user of the workers, or on a copy that can be written",
        ) from None
    try:
        return read(store)
    finally:
        store.close()
