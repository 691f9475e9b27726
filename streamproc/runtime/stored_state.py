"""What a restore may begin from: the task's state on this pod's disk, and copies of it that outlive the pod."""

from __future__ import annotations

__all__ = ["LocalMeta", "LocalStates", "NoCheckpoints", "TaskCheckpoints"]

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import msgspec

from state.errors import StateCorruptedError
from state.manifest import Manifest
from streamproc.runtime.partition_task import PartitionTask


class LocalMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a flush stores beside the rows: which transaction they are of.

    `position`: the next offset of the input that is decided, `others`: those of the task's other inputs.
    """

    sequence: int
    chain: bytes
    journal_offset: int
    position: int
    state_fingerprint: str
    partitions: int
    others: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """The stored bytes."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(stored: bytes) -> LocalMeta:
        """Read back.

        Raises:
            StateCorruptedError: not ours, or damaged.
        """
        try:
            return msgspec.msgpack.decode(stored, type=LocalMeta)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateCorruptedError("the local state's position cannot be read") from error


class LocalStates(Protocol):
    """The tasks' state on disk."""

    def local_meta(self, task: int) -> bytes | None: ...
    async def discard(self, task: int) -> None:
        """Throw the task's local state away, on disk too, and begin empty."""
        ...

    def relief(self, task: int, meta: LocalMeta) -> Awaitable[None] | None:
        """Between batches, while the task is restored and stands at `meta`: what writes its dirty rows, if many are."""
        ...


class TaskCheckpoints(Protocol):
    """Copies of tasks' state that outlive the pod."""

    async def take_last(self, tasks: Iterable[PartitionTask]) -> None:
        """At a clean stop: copy what was flushed last, within a bounded time; a failure is logged."""
        ...

    async def newest_first(self, task: int, go_on: Callable[[], None]) -> list[Manifest]:
        """What there is; what cannot be read is logged. `go_on`: as for `install`.

        Raises:
            BlobStoreError: the store cannot be asked.
        """
        ...

    async def install(self, manifest: Manifest, go_on: Callable[[], None]) -> bytes | None:
        """Put a checkpoint in the place of the task's local state; its meta row.

        `go_on` is called now and then while it is fetched, in a thread and here; what it raises ends that, or leaves a
        request that hangs alone, and comes out here.

        Raises:
            StateCorruptedError: it is damaged; the local state is as before, or empty.
            BlobStoreError: the store cannot be asked.
        """
        ...

    async def discard(self, manifest: Manifest) -> None:
        """Remove one that is of another history: its higher sequence must not outrank those of ours for ever."""
        ...


class NoCheckpoints:
    """For logs that are kept for ever, and for pods that keep their disks."""

    async def take_last(self, tasks: Iterable[PartitionTask]) -> None: ...

    async def newest_first(self, task: int, go_on: Callable[[], None]) -> list[Manifest]:
        return []

    async def install(self, manifest: Manifest, go_on: Callable[[], None]) -> bytes | None:
        raise AssertionError

    async def discard(self, manifest: Manifest) -> None:
        raise AssertionError
