"""Fault points of the parts around the worker's steps: hung into them by a victim, absent from everything else.

produced       records have left, their deliveries are unknown (Kafka: the Produce request is on its way)
ending         the end of the transaction has left, its outcome is unknown
flushing       a batch is committed, its rows are not written
checkpointing  a part of a checkpoint is sent
restoring      a task's store is open, a slice of it may be replayed
installing     a part of a checkpoint is fetched
gathering      parts of rows are held, or rows are whole, nothing is encoded
holding        the same, and some rows wait for parts
asked          a service has answered, nobody else knows what
"""

from __future__ import annotations

__all__ = ["At", "hang_in", "hold_nothing"]

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import state.objectstore
from state.blobs import Blob, BlobStore
from state.rocksdb import RocksRowStore
from streamproc.calls.http import HttpTransport
from streamproc.calls.request import Request
from streamproc.eventlog.contract import OutputRecords
from streamproc.eventlog.embedded.store import Store
from streamproc.eventlog.embedded.writer import EmbeddedWriter
from streamproc.eventlog.kafka.client import Client
from streamproc.runtime import stage
from streamproc.runtime.gathering import Gatherer
from streamproc.runtime.recovery import Recovery
from streamproc.runtime.rows import Gathered

At = Callable[[str], None]
"""Told of each point as it is reached, from whatever thread."""
_REQUESTS = {0: "produced", 26: "ending"}
_TURNS_TO_SEND = 5
"""Turns of the loop until a request is in its socket."""


def hang_in(at: At, replayed: Callable[[int], None]) -> None:
    """Into this process, for good. `replayed`: told how many transactions a restore decides again."""
    _into_kafka(at)
    _into_embedded(at)
    _into_state(at)
    _into_recovery(at, replayed)
    _into_gathering(at)
    _into_calls(at)


def _into_kafka(at: At) -> None:
    send = Client.send

    async def placed(self: Client, node: Any, request: Any, **options: Any) -> Any:
        point = _REQUESTS.get(request.API_KEY)
        if point is None:
            return await send(self, node, request, **options)
        answer = asyncio.ensure_future(send(self, node, request, **options))
        for _ in range(_TURNS_TO_SEND):
            await asyncio.sleep(0)
        at(point)
        return await answer

    Client.send = placed


def _into_embedded(at: At) -> None:
    append, commit = EmbeddedWriter.append, Store._commit_offsets

    async def appended(self: EmbeddedWriter, outputs: Sequence[OutputRecords]) -> None:
        await append(self, outputs)
        at("produced")

    def committing(self: Store, *given: Any) -> None:
        commit(self, *given)  # SQLite's transaction is open
        at("ending")

    EmbeddedWriter.append = appended  # type: ignore[method-assign]
    Store._commit_offsets = committing  # type: ignore[assignment, method-assign]


def _into_state(at: At) -> None:
    write, open_blobs = RocksRowStore.write, state.objectstore.open_blobs

    def flushing(self: RocksRowStore, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        at("flushing")
        write(self, puts, deletes)

    RocksRowStore.write = flushing  # type: ignore[method-assign]
    state.objectstore.open_blobs = lambda url, *what: _Blobs(open_blobs(url, *what), at)


class _Blobs:
    """A blob store that tells of each part that came or went."""

    def __init__(self, blobs: BlobStore, at: At) -> None:
        self._blobs = blobs
        self._at = at

    def put(self, name: str, content: bytes | Path) -> None:
        self._blobs.put(name, content)
        self._at("checkpointing")

    def create(self, name: str, content: bytes) -> bool:
        return self._blobs.create(name, content)

    def get(self, name: str) -> bytes:
        return self._blobs.get(name)

    def stream(self, name: str) -> Iterator[bytes]:
        for piece in self._blobs.stream(name):
            self._at("installing")
            yield piece

    def head(self, name: str) -> Blob | None:
        return self._blobs.head(name)

    def list_blobs(self, prefix: str) -> list[Blob]:
        return self._blobs.list_blobs(prefix)

    def delete(self, names: Sequence[str]) -> None:
        self._blobs.delete(names)


def _into_recovery(at: At, replayed: Callable[[int], None]) -> None:
    class PlacedRecovery(Recovery):
        async def _restore(self, *given: Any) -> None:
            at("restoring")
            await super()._restore(*given)

        async def _slice(self, task: Any, feed: Any, pending: Any) -> None:
            await super()._slice(task, feed, pending)
            if pending:
                replayed(len(pending))
                at("restoring")

        async def _last(self, *given: Any) -> None:
            await super()._last(*given)
            replayed(1)
            at("restoring")

    stage.Recovery = PlacedRecovery  # type: ignore[attr-defined]


def _into_gathering(at: At) -> None:
    apply = Gatherer.apply

    def applied(self: Gatherer, gathered: Gathered) -> None:
        apply(self, gathered)
        rows = [row for changes in gathered.changes.values() for row in changes.rows.values()]
        if rows:
            at("gathering")
        if any(row is not None for row in rows):
            at("holding")

    Gatherer.apply = applied  # type: ignore[method-assign]


def _into_calls(at: At) -> None:
    send = HttpTransport.send

    async def asked(self: HttpTransport, request: Request) -> bytes:
        answer = await send(self, request)
        at("asked")
        return answer

    HttpTransport.send = asked  # type: ignore[method-assign]


def hold_nothing() -> None:
    """An ablation: parts of rows are gathered within a batch only."""
    Gatherer.apply = lambda self, gathered: None  # type: ignore[method-assign]
