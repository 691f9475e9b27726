"""Switches of ablations: tables from topics, calls, waiting in step, checkpoints."""

from __future__ import annotations

__all__ = [
    "any_tables",
    "anywhere",
    "no_catching_up",
    "no_digests",
    "no_end",
    "no_late_rows",
    "no_order_of_answers",
    "no_skipping",
    "no_table_versions",
    "nobody_is_behind",
    "the_clock_again",
]

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import msgspec
import numpy as np

from state import checkpoint
from streamproc.eventlog import places
from streamproc.eventlog.contract import Chunk
from streamproc.runtime import outputs, replay
from streamproc.runtime.journal import JournalEntry, encode_entry
from streamproc.runtime.line import Line, Row
from streamproc.runtime.progress import Progress
from streamproc.runtime.replay import SilentReplayer
from streamproc.runtime.shortcut import Shortcut, SkippingReader
from streamproc.runtime.topic_tables import TopicTables


def no_table_versions() -> AbstractContextManager[object]:
    """The journal names no tables."""

    def encode(entry: JournalEntry, chain: bytes) -> Any:
        return encode_entry(msgspec.structs.replace(entry, tables=()), chain)

    return mock.patch.object(outputs, "encode_entry", encode)


def no_catching_up() -> AbstractContextManager[object]:
    """Tables are read to their end once, at the start; from then on they are only followed."""
    real = TopicTables.catch_up

    async def catch_up(self: TopicTables) -> None:
        if self._scanner is None:
            await real(self)

    return mock.patch.object(TopicTables, "catch_up", catch_up)


def any_tables() -> AbstractContextManager[object]:
    """A restore compares decisions that were made by other tables."""
    real = SilentReplayer.replay_last

    def replay_last(self: SilentReplayer, task: int, chunks: Sequence[Chunk], entry: JournalEntry) -> bool:
        live = self._engine.plan.live
        return real(self, task, chunks, entry if live is None else msgspec.structs.replace(entry, tables=live.versions))

    return mock.patch.object(SilentReplayer, "replay_last", replay_last)


def no_order_of_answers() -> AbstractContextManager[object]:
    """Who is answered goes on."""
    real = Line.ready

    def ready(self: Line, most: int) -> list[Row]:
        self._rows = deque(sorted(self._rows, key=lambda row: not row.is_answered))
        return real(self, most)

    return mock.patch.object(Line, "ready", ready)


def nobody_is_behind() -> AbstractContextManager[object]:
    """Whoever looks how far others have come sees nobody that has to be waited for."""
    return mock.patch.object(Progress, "behind", return_value=None)


def anywhere() -> AbstractContextManager[object]:
    """Records that went through the next stage already may come to lie anywhere."""
    return mock.patch.object(places, "checked_base")


def no_end() -> AbstractContextManager[object]:
    """What is handed on goes through the next stage at once, before what lies there unread."""
    return mock.patch.object(Shortcut, "_is_at_end", return_value=True)


def no_skipping() -> AbstractContextManager[object]:
    """What went through a stage already is delivered to it."""
    return mock.patch.object(SkippingReader, "skip")


def no_late_rows() -> AbstractContextManager[object]:
    """The journal's bits of late rows are not read."""
    return mock.patch.object(replay, "unpacked", return_value=None)


def the_clock_again() -> AbstractContextManager[object]:
    """A restore asks how late a row is now: by then all are."""
    return mock.patch.object(replay, "unpacked", lambda bits, rows: np.ones(rows, np.bool_))


@contextlib.contextmanager
def no_digests() -> Iterator[None]:
    """Files are taken as they come."""
    with mock.patch.object(checkpoint, "hashlib", _Hashes):
        yield


class _Hash:
    def __init__(self, data: bytes = b"") -> None:
        self._real = hashlib.sha256(data)
        self.update = self._real.update

    def hexdigest(self) -> str:
        return _Anything(self._real.hexdigest())


class _Hashes:
    sha256 = _Hash
    file_digest = staticmethod(hashlib.file_digest)


class _Anything(str):
    """Equal to all."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False
