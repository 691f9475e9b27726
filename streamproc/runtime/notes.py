"""What a worker process and the parent that supervises it tell each other: a few kilobytes of shared memory.

    worker -> parent    the batch it computes, and whether it still does; it outlives the worker's crash
    parent -> worker    orders, written before it starts: where to go one record at a time, which records to refuse

It is memory and no file on a disk: a mapped page that the kernel is just writing back would stop the hot path.
The parent loads this module too: it imports nothing of the runtime.
"""

from __future__ import annotations

__all__ = ["NOTES_VARIABLE", "Notes", "Orders", "Portion"]

import mmap
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

NOTES_VARIABLE = "STREAMPROC_NOTES"
"""In a supervised worker's environment: the number of the inherited file descriptor."""

_SIZE = 1 << 20
_BATCH, _ORDERS = 16, 1 << 19
_HEAD = struct.Struct("<qq")  # bytes of the batch's text, whether it is being computed
_LENGTH = struct.Struct("<q")

Source = tuple[str, int]
"""(topic, partition)"""


class Portion(NamedTuple):
    """What a batch takes of one partition: `rows` records from offset `first` on, all below `stop`."""

    topic: str
    partition: int
    first: int
    stop: int
    rows: int

    @property
    def source(self) -> Source:
        """Topic and partition."""
        return (self.topic, self.partition)


class Orders(NamedTuple):
    """What a worker is told at its start.

    `singly`: partition -> the offset up to which (exclusive) records are taken one at a time;
    `refused`: (partition, offset) of records that become dead letters uncomputed.
    """

    singly: dict[Source, int]
    refused: frozenset[tuple[Source, int]]


class Notes:
    """The shared memory behind the file descriptor `fd`, which must have been made by `create`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _SIZE)

    @staticmethod
    def create() -> Notes:
        """New notes: nothing is computed, nothing ordered."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("streamproc-notes")
        else:
            import tempfile

            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _SIZE)
        return Notes(fd)

    def close(self) -> None:
        """Give memory and descriptor back."""
        self._memory.close()
        os.close(self.fd)

    # ---- the worker's side; `begin` and `end` are called once a batch

    def begin(self, batch: Iterable[Portion]) -> None:
        """This batch is being computed. One that does not fit (a thousand partitions) is not noted."""
        text = "".join([f"{p.partition} {p.first} {p.stop} {p.rows} {p.topic}\n" for p in batch]).encode()
        if len(text) > _ORDERS - _BATCH:
            text = b""
        self._memory[_BATCH : _BATCH + len(text)] = text
        _HEAD.pack_into(self._memory, 0, len(text), 1)

    def end(self) -> None:
        """It is computed."""
        _LENGTH.pack_into(self._memory, _LENGTH.size, 0)

    def orders(self) -> Orders:
        """What the parent ordered."""
        singly: dict[Source, int] = {}
        refused: set[tuple[Source, int]] = set()
        for line in self._read(_ORDERS + _LENGTH.size, _LENGTH.unpack_from(self._memory, _ORDERS)[0]):
            kind, partition, offset, topic = line.split(" ", 3)
            source = (topic, int(partition))
            if kind == "singly":
                singly[source] = int(offset)
            else:
                refused.add((source, int(offset)))
        return Orders(singly, frozenset(refused))

    # ---- the parent's side

    def restart(self, orders: Orders) -> None:
        """Forget the last batch, and order this of the worker about to start."""
        _HEAD.pack_into(self._memory, 0, 0, 0)
        lines = [f"singly {source[1]} {stop} {source[0]}" for source, stop in sorted(orders.singly.items())]
        lines += [f"refuse {source[1]} {offset} {source[0]}" for source, offset in sorted(orders.refused)]
        room = _SIZE - _ORDERS - _LENGTH.size
        text = "".join(f"{line}\n" for line in lines).encode()[:room].rpartition(b"\n")[0]
        self._memory[_ORDERS + _LENGTH.size : _ORDERS + _LENGTH.size + len(text)] = text
        _LENGTH.pack_into(self._memory, _ORDERS, len(text))

    def last(self) -> tuple[tuple[Portion, ...], bool]:
        """The last batch the worker began (none: empty), and whether it was still computing it."""
        length, computing = _HEAD.unpack_from(self._memory, 0)
        batch = []
        for line in self._read(_BATCH, length):
            partition, first, stop, rows, topic = line.split(" ", 4)
            batch.append(Portion(topic, int(partition), int(first), int(stop), int(rows)))
        return tuple(batch), bool(computing)

    def _read(self, start: int, length: int) -> list[str]:
        return self._memory[start : start + length].decode().splitlines()
