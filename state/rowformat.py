"""How keys, rows and ring chunks lie in a row store: bytes in, arrays out, and back. Pure.

    m                                          meta row: position, journal sequence, chain head (the runtime's)
    f                                          layout: the fingerprint of every part, JSON
    t  table                                   stream time (8) of a table with a ttl
    r  table  key                              row: version, fingerprint, int64s, ring tail, blob
    c  table  length of key (4)  key  number   chunk `number` (8, big-endian) of the key's ring

`table` is the name, preceded by its length (1). Ring entries of full chunks (16 positions from 16 * number on) are
stored once, as chunks; those after the last full chunk ("tail", at most 15) lie in the row, which is rewritten
anyway. Integers in values are little-endian.
"""

from __future__ import annotations

__all__ = ["CHUNK", "LAYOUT_KEY", "META_KEY", "RING_ENTRIES_MAX", "RowFormat"]

import msgspec
import numpy as np
import numpy.typing as npt

from state.errors import ConfigError, StateCorruptedError
from state.hashing import digest64
from state.table import TableSpec

I64 = npt.NDArray[np.int64]
CHUNK = 16
RING_ENTRIES_MAX = 1 << 26  # of one key: far more than a worker has room for
META_KEY = b"m"
LAYOUT_KEY = b"f"
_VERSION = b"\x01"
_TEXT = ("utf-8", "surrogatepass")


class RowFormat:
    """Stored form of one table."""

    def __init__(self, spec: TableSpec) -> None:
        name = spec.name.encode()
        if len(name) > 255:
            raise ConfigError(f"the name of a table is at most 255 bytes long: {spec.name[:40]}...")
        self.spec = spec
        self.fingerprint = digest64(_VERSION + msgspec.json.encode(spec))
        self.row_prefix = b"r" + bytes([len(name)]) + name
        self.chunk_prefix = b"c" + self.row_prefix[1:]
        self.time_key = b"t" + self.row_prefix[1:]
        self.columns = len(spec.fields) + (2 if spec.ring else 0) + (1 if spec.blob else 0)
        self.entry_bytes = 8 * len(spec.ring.columns) if spec.ring else 0
        self._head = np.frombuffer(_VERSION + self.fingerprint, np.uint8)
        self._width = len(self._head) + 8 * self.columns

    @property
    def row_bytes(self) -> int:
        """Length of a row's value without the ring's tail and the blob."""
        return self._width

    # ---- keys

    def row_keys(self, keys: list[str]) -> list[bytes]:
        """Stored keys of rows."""
        prefix = self.row_prefix
        return [prefix + key.encode(*_TEXT) for key in keys]

    def row_key_text(self, stored: bytes) -> str:
        """The key text of a stored row key."""
        try:
            return stored[len(self.row_prefix) :].decode(*_TEXT)
        except UnicodeDecodeError:
            raise self.corrupted("a key cannot be read") from None

    def chunk_key(self, row_key: bytes, number: int) -> bytes:
        """Stored key of a ring chunk, from the stored key of its row."""
        key = row_key[len(self.row_prefix) :]
        return self.chunk_prefix + len(key).to_bytes(4, "big") + key + number.to_bytes(8, "big")

    # ---- rows

    def pack_rows(self, header: I64, tails: list[bytes], blobs: list[bytes]) -> list[bytes]:
        """Row values; `header` (rows, columns): fields, start and stop, length of the blob. Empty lists: none."""
        matrix = np.empty((len(header), self._width), np.uint8)
        matrix[:, : len(self._head)] = self._head
        matrix[:, len(self._head) :] = np.ascontiguousarray(header, "<i8").view(np.uint8)
        flat = matrix.tobytes()
        width = self._width
        values = [flat[at : at + width] for at in range(0, len(flat), width)]
        if tails:
            values = [a + b for a, b in zip(values, tails, strict=True)]
        if blobs:
            values = [a + b for a, b in zip(values, blobs, strict=True)]
        return values

    def unpack_rows(self, values: list[bytes]) -> tuple[I64, list[bytes]]:
        """Header (rows, columns), and of each row what follows the header: tail, then blob."""
        width = self._width
        flat = b"".join([value[:width] for value in values])
        if len(flat) != width * len(values):
            raise self.corrupted("a row is cut short")
        matrix = np.frombuffer(flat, np.uint8).reshape(len(values), width)
        if not (matrix[:, : len(self._head)] == self._head).all():
            raise self.corrupted("a row has another version or fingerprint")
        header = np.ascontiguousarray(matrix[:, len(self._head) :]).view("<i8").astype(np.int64, copy=False)
        return header, [value[width:] for value in values]

    def field(self, value: bytes, column: int) -> int:
        """One header column of a stored row."""
        at = len(self._head) + 8 * column
        return int.from_bytes(value[at : at + 8], "little", signed=True)

    def check_bounds(self, starts: I64, stops: I64) -> None:
        """Ring bounds as no damaged row has them: what follows from them may be allocated, or walked through.

        Raises:
            StateCorruptedError: they are impossible.
        """
        if not ((starts >= 0) & (starts <= stops) & (stops - starts <= RING_ENTRIES_MAX)).all():
            raise self.corrupted("a ring has impossible bounds")

    # ---- ring chunks

    @staticmethod
    def pack_chunk(first: int, entries: bytes) -> bytes:
        """Value of a full chunk whose entries begin at position `first` (0..15) of the chunk."""
        return _VERSION + bytes([first]) + entries

    def unpack_chunk(self, value: bytes | None, first: int) -> bytes:
        """Entries of a stored chunk from position `first` of the chunk on."""
        if value is None:
            raise self.corrupted("a ring chunk is missing")
        if len(value) < 2 or value[:1] != _VERSION or value[1] > first:
            raise self.corrupted("a ring chunk is wrong")
        if len(value) != 2 + (CHUNK - value[1]) * self.entry_bytes:
            raise self.corrupted("a ring chunk is cut short")
        return value[2 + (first - value[1]) * self.entry_bytes :]

    def corrupted(self, what: str) -> StateCorruptedError:
        """The error to raise for a damaged row of this table."""
        return StateCorruptedError(f"table {self.spec.name}: {what}")
