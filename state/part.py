"""What every part of a task's state offers: keyed tables and the deduplication index alike."""

from __future__ import annotations

__all__ = ["Adopt", "PartCut", "Puts", "StatePart"]

from collections.abc import Callable, Iterator
from typing import Protocol

from state.rowstore import RowStore

Puts = list[tuple[bytes, bytes]]
Adopt = Callable[[int], None]
"""Takes a task over with what was loaded of it; quick, on the loop."""


class PartCut(Protocol):
    """A copy of what a part has to write, taken between two batches."""

    @property
    def rows(self) -> int:
        """Dirty rows copied."""
        ...

    def encode(self) -> tuple[Puts, list[bytes]]:
        """Rows to put and keys to delete; pure, runs in the flush thread."""
        ...

    def sweep(self, store: RowStore) -> list[bytes]:
        """Keys to delete besides, of what had expired as of this cut; bounded, runs in the flush thread."""
        ...

    def written(self) -> None:
        """The write happened. On the loop; what was copied may leave memory now."""
        ...

    def restore_dirty(self) -> None:
        """The write did not happen: all of it is to be written again. On the loop; before or after an undo."""
        ...


class StatePart(Protocol):
    """One part of the state of all tasks of a worker. Each has stored keys of its own (a prefix)."""

    @property
    def name(self) -> str:
        """Unique in the plan and stable over releases."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """Changes when what is stored changes its layout or meaning."""
        ...

    def read(self, store: RowStore, *, fresh: bool) -> Adopt:
        """Read what is to be in memory of a task, in any thread; the rest is `Adopt`'s. `fresh`: the store is empty.

        Raises:
            StateCorruptedError: what is stored fails its checks.
        """
        ...

    def drop_task(self, task: int) -> None:
        """Forget a task."""
        ...

    def seal(self) -> None:
        """The batch is in flight: what changes from now on is the next one's. At most two are open, then."""
        ...

    def unseal(self) -> None:
        """The sealed batch is the newest one again; the one after it was undone."""
        ...

    def publish(self) -> None:
        """The oldest open batch committed: its before-images go."""
        ...

    def undo(self) -> None:
        """The newest open batch is not to be: back to the state before it."""
        ...

    @property
    def in_batch(self) -> bool:
        """Whether there is something to publish or undo."""
        ...

    def cut(self, task: int) -> PartCut:
        """Copy what is dirty and count it as clean."""
        ...

    def dirty_rows(self, task: int) -> int:
        """Rows that a cut would copy."""
        ...

    @property
    def live_keys(self) -> int:
        """Entries in memory, of all tasks."""
        ...

    @property
    def used_bytes(self) -> int:
        """Memory of the entries in memory; unlike `bytes_estimate` it falls when some leave."""
        ...

    def expire(self) -> int:
        """A bounded step, between batches: some entries whose ttl is over leave memory; how many did."""
        ...

    def evict(self) -> int:
        """A bounded step, between batches: some entries that the store has leave memory; how many did."""
        ...

    def bytes_estimate(self) -> int:
        """Memory in use, in bytes."""
        ...

    def canonical(self, task: int) -> Iterator[bytes]:
        """The task's whole state as bytes that do not depend on slots, batches, flushes or restarts."""
        ...
