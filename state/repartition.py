"""The state of N tasks as the state of M: which row goes where (docs/decisions/007-repartitioning.md).

A key lies in task murmur2(key) % N. A new task j can get keys of the old tasks i with i = j modulo gcd(N, M), its
*contributors*, and of no others.

    rows and chunks of tables keyed by the partition key     to task murmur2(key) % M; bytes as they are
    those of tables with another key, or of hashed keys      to every task that their old one contributes to: only
                                                             one of the copies will ever be asked for. A key that two
                                                             contributors have cannot be joined: refused
    remembered ids                                           to every such task: a duplicate has its payload, hence its
                                                             key, hence its partition, so no other copy can match it

All calls block, and nothing here writes a meta row: the caller does, when all of it is there and checked.
"""

from __future__ import annotations

__all__ = ["IdsSpec", "Repartition", "contributors"]

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import gcd
from typing import NamedTuple

import numpy as np
import xxhash

from state.actions import ActionCodes
from state.due import WAITS
from state.entries import Entries
from state.errors import ConfigError, StateCorruptedError
from state.hashing import partitions_of
from state.rowformat import LAYOUT_KEY, RowFormat
from state.rowstore import RowStore
from state.segment_store import SegmentStore
from state.segments import IdSegments
from state.table import TableSpec

_BATCH = 4096
_DIGEST_BITS = 128


class IdsSpec(NamedTuple):
    """The deduplication part of a plan: its name, fingerprint, horizon in ms, and the plan's actions."""

    name: str
    fingerprint: bytes
    horizon_ms: int
    actions: ActionCodes


class _Sum(NamedTuple):
    """Rows, and the sum of their digests: equal for equal sets of rows, in whatever order and stores they lie."""

    rows: int = 0
    digest: int = 0

    def __add__(self, other: object) -> _Sum:
        assert isinstance(other, _Sum)
        return _Sum(self.rows + other.rows, (self.digest + other.digest) % (1 << _DIGEST_BITS))


def contributors(task: int, old: int, new: int) -> list[int]:
    """The old tasks that may have keys of new task `task`.

    >>> contributors(1, 4, 6), contributors(5, 4, 8)
    ([1, 3], [1])
    """
    return [i for i in range(old) if (i - task) % gcd(old, new) == 0]


class Repartition:
    """Moves the state of `sources` (open, unchanged; tasks that never had a record are absent) to empty `targets`.

    Args:
        sources: stores by old task.
        targets: stores by new task, all of them.
        old: the old number of partitions; the new one is that of `targets`.
        tables: of the plan.
        moved: names of those tables whose keys are the partition key as it is produced.
        ids: of the plan, if it deduplicates.
    """

    def __init__(
        self, sources: Mapping[int, RowStore], targets: Mapping[int, RowStore], old: int, *,
        tables: Sequence[TableSpec], moved: frozenset[str], ids: IdsSpec | None,
    ) -> None:  # fmt: skip
        self._sources = sources
        self._targets = targets
        self._old, self._new = old, len(targets)
        self._formats = [RowFormat(spec) for spec in tables]
        self._moved = moved
        self._ids = ids
        self.keys: dict[str, int] = {}
        self.entries = 0
        self.reused = 0  # ids that several contributors have seen, each with a payload of its own

    def run(self) -> None:
        """Write all rows to the targets.

        Raises:
            ConfigError: keys that cannot be assigned.
            StateCorruptedError: a source is damaged.
            OSError: the disk failed.
        """
        for form in self._formats:
            if WAITS in form.spec.fields:
                self._check_timers(form)
        for task, source in sorted(self._sources.items()):
            for form in self._formats:
                self._rows(task, source, form)
        for task, target in sorted(self._targets.items()):
            if self._ids is not None:
                self._merge_ids(task, target, self._ids)
            self._merge_times(task, target)
            layouts = {source.get_many([LAYOUT_KEY])[0] for source in self._sources.values()}
            if len(layouts) > 1 or None in layouts:
                raise StateCorruptedError("the tasks' state is of several plans")
            target.write([(LAYOUT_KEY, layout) for layout in layouts if layout is not None], [])

    # ---- tables

    def _check_timers(self, form: RowFormat) -> None:
        """Keys that wait go on as they were only under the very time of the task they waited in, and once."""
        hint = "give the new pipeline a multiple of the partitions, or replay the input under a new name"
        if form.spec.name not in self._moved:
            raise ConfigError(
                f"table {form.spec.name}: what waits for time is not kept by the partition's key", hint=hint
            )
        for task in self._targets:
            old = [self._sources[i] for i in contributors(task, self._old, self._new) if i in self._sources]
            if len({source.get_many([form.time_key])[0] for source in old}) > 1:
                raise ConfigError(
                    f"table {form.spec.name}: partitions whose event times differ would be joined", hint=hint
                )

    def _rows(self, task: int, source: RowStore, form: RowFormat) -> None:
        name = form.spec.name
        for prefix in (form.row_prefix, form.chunk_prefix):
            pairs = source.scan(prefix)
            while batch := list(islice(pairs, _BATCH)):
                if prefix is form.row_prefix:
                    self.keys[name] = self.keys.get(name, 0) + len(batch)
                if name in self._moved:
                    self._move(task, form, batch)
                else:
                    self._copy(task, form, batch, rows=prefix is form.row_prefix)

    def _move(self, task: int, form: RowFormat, batch: list[tuple[bytes, bytes]]) -> None:
        keys = [_key_of(form, stored) for stored, _ in batch]
        if (partitions_of(keys, self._old) != task).any():
            raise ConfigError(
                f"table {form.spec.name}: keys of task {task} do not belong into it by their murmur2 hash",
                hint="the state cannot be repartitioned: replay the input under a new pipeline name",
            )
        places = partitions_of(keys, self._new)
        for place in set(places.tolist()):
            self._targets[place].write([batch[i] for i in np.flatnonzero(places == place).tolist()], [])

    def _copy(self, task: int, form: RowFormat, batch: list[tuple[bytes, bytes]], *, rows: bool) -> None:
        for place, target in self._targets.items():
            if task not in contributors(place, self._old, self._new):
                continue
            there = sum(value is not None for value in target.get_many([key for key, _ in batch])) if rows else 0
            if there:
                raise ConfigError(
                    f"table {form.spec.name}: {there} or more keys ({form.spec.key}) have state in several partitions",
                    hint="they would meet in one, and cannot be joined: replay the input under a new pipeline name",
                )
            target.write(batch, [])

    def _merge_times(self, task: int, target: RowStore) -> None:
        """The stream time of tables whose keys expire: the newest of the contributors', as for ids."""
        sources = [self._sources[old] for old in contributors(task, self._old, self._new) if old in self._sources]
        for form in self._formats:
            found = [time for source in sources if (time := source.get_many([form.time_key])[0]) is not None]
            if found:
                newest = max(found, key=lambda time: int.from_bytes(time, "little", signed=True))
                target.write([(form.time_key, newest)], [])

    # ---- ids

    def _merge_ids(self, task: int, target: RowStore, spec: IdsSpec) -> None:
        merged = IdSegments(spec.horizon_ms)
        stored = SegmentStore(spec.name, spec.fingerprint, merged, spec.actions)
        pieces: list[tuple[int, int, Entries]] = []
        for old, index in self._indices(task, spec):
            merged.stream_time = max(merged.stream_time, index.stream_time)
            pieces += [(segment, old, entries) for segment, entries in _segments_of(index)]
        pieces.sort(key=lambda piece: piece[:2])
        number = 0
        for segment, _, entries in pieces:
            if not merged.segments or merged.segments[-1][0] != segment:
                merged.segments.append((segment, number))
            number += len(entries.lo)
        if pieces:
            joined = Entries(*(np.concatenate(columns) for columns in zip(*(p[2] for p in pieces), strict=True)))
            merged.restore(0, joined)
            self.reused += _seen_by_several([(old, entries) for _, old, entries in pieces])
        self.entries += number
        target.write(stored.cut().encode()[0], [])

    def _indices(self, task: int, spec: IdsSpec) -> Iterator[tuple[int, IdSegments]]:
        for old in contributors(task, self._old, self._new):
            if old in self._sources:
                index = IdSegments(spec.horizon_ms)
                SegmentStore(spec.name, spec.fingerprint, index, spec.actions).load(self._sources[old])
                yield old, index

    # ---- checking

    def check(self) -> None:
        """Read sources and targets again: each row is where it belongs, once, and none is more, less or altered.

        Raises:
            StateCorruptedError: it is not so.
        """
        for form in self._formats:
            before = {task: _summed(store, form) for task, store in self._sources.items()}
            after = {task: _summed(store, form) for task, store in self._targets.items()}
            if form.spec.name in self._moved:
                self._check_places(form)
                equal = sum(before.values(), _Sum()) == sum(after.values(), _Sum())
            else:
                expected = {
                    task: sum((before[i] for i in contributors(task, self._old, self._new) if i in before), _Sum())
                    for task in self._targets
                }
                equal = after == expected
            if not equal:
                raise StateCorruptedError(f"table {form.spec.name} has other rows after repartitioning than before")
        if self._ids is not None:
            for task, target in self._targets.items():
                self._check_ids(task, target, self._ids)

    def _check_places(self, form: RowFormat) -> None:
        for task, target in self._targets.items():
            for prefix in (form.row_prefix, form.chunk_prefix):
                stored = (key for key, _ in target.scan(prefix))
                while batch := list(islice(stored, _BATCH)):
                    if (partitions_of([_key_of(form, key) for key in batch], self._new) != task).any():
                        raise StateCorruptedError(f"table {form.spec.name}: task {task} has keys of another task")

    def _check_ids(self, task: int, target: RowStore, spec: IdsSpec) -> None:
        found = IdSegments(spec.horizon_ms)
        SegmentStore(spec.name, spec.fingerprint, found, spec.actions).load(target)
        expected = sum((_summed_ids(index) for _, index in self._indices(task, spec)), _Sum())
        if _summed_ids(found) != expected:
            raise StateCorruptedError(f"task {task} has other ids after repartitioning than its old tasks had")


def _key_of(form: RowFormat, stored: bytes) -> bytes:
    if stored.startswith(form.row_prefix):
        return stored[len(form.row_prefix) :]
    return stored[len(form.chunk_prefix) + 4 : -8]


def _segments_of(index: IdSegments) -> Iterator[tuple[int, Entries]]:
    """(slice of stream time, its entries), oldest first."""
    ends = [begin for _, begin in index.segments[1:]] + [index.stop] * bool(index.segments)
    taken = 0
    for (segment, begin), end in zip(index.segments, ends, strict=True):
        numbers = np.arange(max(begin, index.first), end)
        taken += len(numbers)
        if numbers.size:
            yield segment, index.columns.take(index.at(numbers))
    if taken != len(index):
        raise StateCorruptedError("deduplication: segments and entries do not fit together")


def _seen_by_several(parts: Sequence[tuple[int, Entries]]) -> int:
    """Ids that more than one task has."""
    ids = np.concatenate([np.column_stack((p.lo, p.hi, np.full(len(p.lo), old, np.uint64))) for old, p in parts])
    of_tasks = np.unique(ids, axis=0)
    return len(of_tasks) - len(np.unique(of_tasks[:, :2], axis=0))


def _summed(store: RowStore, form: RowFormat) -> _Sum:
    total = rows = 0
    for prefix in (form.row_prefix, form.chunk_prefix):
        for key, value in store.scan(prefix):
            rows += 1
            total += xxhash.xxh3_128_intdigest(len(key).to_bytes(4, "big") + key + value)
    return _Sum(rows, total % (1 << _DIGEST_BITS))


def _summed_ids(index: IdSegments) -> _Sum:
    total = rows = 0
    for segment, entries in _segments_of(index):
        for one in zip(*(column.tolist() for column in entries), strict=True):
            rows += 1
            total += xxhash.xxh3_128_intdigest(repr((segment, one)).encode())
    return _Sum(rows, total % (1 << _DIGEST_BITS))
