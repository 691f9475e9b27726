"""How a worker runs."""

from __future__ import annotations

__all__ = ["WorkerSettings"]

import msgspec


class WorkerSettings(msgspec.Struct, frozen=True):
    """How a worker runs.

    `instance` is the pod's stable name; with `index` it names the group member and the transactional id.
    `batch_rows_max` and `batch_ms` bound a batch (rows; estimated work); of what is far behind one may have twice the
    rows. `flush_rows` (dirty rows of one partition) and `flush_seconds`: when they are written. `until_end`: stop when
    all that was there at the start is decided. `leave`: an orderly end gives the partitions up at once, instead of
    keeping the membership for a restart. `commit_interval_ms`: from the begin of a transaction to the next one's, at
    least, unless a full batch waits.
    `replay_horizon_ms`: how old the records may be that a replay needs, because the oldest kept checkpoint is so old;
    0: there are no checkpoints.
    `in_step_seconds`: how long a partition is waited for that is behind, where stages follow each other.
    `state_memory_mb` (MiB): what keys and RocksDB's cache may take (`state.budget`); 0: all keys stay in memory.
    """

    instance: str = "local"
    index: int = 0
    count: int = 1
    batch_rows_max: int = 8_192
    batch_ms: float = 20.0
    flush_rows: int = 5_000
    flush_seconds: float = 1.0
    until_end: bool = False
    leave: bool = False
    commit_interval_ms: float = 0.0
    state_memory_mb: int = 0
    replay_horizon_ms: int = 0
    in_step_seconds: float = 1.0
