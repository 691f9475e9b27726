"""The row store port: an ordered map of bytes with atomic, durable batches. One store a task.

Implementations: `state.rocksdb` (RocksDB) and `state.memory` (simulated: unsynced writes may be lost or torn
at a crash). Calls block; the runtime makes writes from a thread, through the flush executor.
"""

from __future__ import annotations

__all__ = ["RowStore", "RowStores"]

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol


class RowStore(Protocol):
    """The stored rows of one task."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`; None where absent."""
        ...

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        """All or nothing; deletes apply before puts.

        Raises:
            StateCorruptedError: the store is damaged.
            OSError: no space, input/output error: nothing was written.
        """
        ...

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Pairs whose key begins with `prefix` and is greater than `after`, in key order, as of the call."""
        ...

    def snapshot(self, directory: Path) -> None:
        """A consistent copy of the store in a new directory (RocksDB: hard links)."""
        ...

    def close(self) -> None: ...


class RowStores(Protocol):
    """Opens the stores of a worker's tasks; holds a lock a task so that two processes never share one."""

    def open(self, task: int) -> RowStore:
        """Open or make the task's store.

        Raises:
            ConfigError: another process holds the task's directory.
            StateCorruptedError: the store cannot be opened: discard it.
        """
        ...

    def discard(self, task: int) -> None:
        """Move a closed, unusable store aside; the next `open` starts empty."""
        ...

    def install(self, task: int, directory: Path) -> None:
        """Put a snapshot (`RowStore.snapshot`) in a closed store's place; `directory` is used up."""
        ...

    def close(self) -> None: ...
