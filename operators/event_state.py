"""What an `EventOperator` remembers of a key: a msgspec Struct, stored as MessagePack in the blob of a keyed table."""

from __future__ import annotations

__all__ = ["KeyMemory", "StateCodec"]

from typing import Any

import msgspec
import numpy as np

from operators.batch import Batch, TaskRows
from operators.event_values import UnfitError
from state.errors import ConfigError, StateCorruptedError
from state.table import KeyedTable


class StateCodec:
    """A state class to bytes and back; equal states are equal bytes (sets and dicts are sorted).

    Raises:
        ConfigError: the class is no Struct, has a field without a default, or a type that cannot be stored.
    """

    def __init__(self, operator: str, of: Any, ttl_ms: int) -> None:
        self.operator = operator
        self.ttl_ms = ttl_ms
        if not (isinstance(of, type) and issubclass(of, msgspec.Struct)):
            raise ConfigError(f"{operator}: state must be a class derived from msgspec.Struct")
        self.new = of
        self._encode = msgspec.msgpack.Encoder(order="deterministic").encode
        try:
            self._decode = msgspec.msgpack.Decoder(of).decode
            self._decode(self._encode(of()))
        except Exception as error:
            hint = "give every field a default and a type that msgspec can store"
            raise ConfigError(f"{operator}: state {of.__name__}: {error}", hint=hint) from error

    def load(self, stored: bytes) -> Any:
        """A state object of its own."""
        try:
            return self._decode(stored)
        except msgspec.MsgspecError as error:
            raise StateCorruptedError(f"{self.operator}: stored state does not fit {self.new.__name__}") from error

    def check(self, state: Any) -> tuple[bytes, Any]:
        """The bytes of a changed state, and what a later row will get for them.

        Raises:
            UnfitError: a field holds what its type does not allow.
        """
        try:
            stored = self._encode(state)
            return stored, self._decode(stored)
        except (msgspec.MsgspecError, TypeError, OverflowError) as error:
            # msgspec names the field's path and types; of an enum it would quote the value.
            text = "a value is not allowed" if str(error).startswith("Invalid") else str(error)
            raise UnfitError(f"state {self.new.__name__}: {text}") from error


class KeyMemory:
    """The states of a batch's keys. Nothing is written before `keep`."""

    def __init__(self, table: KeyedTable, batch: Batch, keys: list[Any], codec: StateCodec) -> None:
        self._table = table
        self._codec = codec
        self._last = table.index("last_seen") if codec.ttl_ms else -1
        self._stream = table.stream.advance(batch.tasks, batch.event_time).tolist() if table.stream else []
        rows = [row for row, key in enumerate(keys) if key is not None]
        spans = batch.tasks if len(rows) == len(keys) else _spans(batch.tasks, rows)
        slots = table.slots(spans, [str(keys[row]) for row in rows]).tolist() if rows else []
        self._slot_of = dict(zip(rows, slots, strict=True))
        self._seen: dict[int, int] = {}
        self._bytes: dict[int, bytes] = {}
        self._ready: dict[int, Any] = {}

    def load(self, row: int, time: int) -> Any:
        """The state that the row at event time `time` (ms) finds; a new one if its key is new, expired or NULL."""
        slot = self._slot_of.get(row)
        if slot is None:
            return self._codec.new()
        stored = self._bytes.get(slot)
        if stored is None:
            stored = self._table.blobs[slot]
            if self._last >= 0:
                self._seen[slot] = int(self._table.rows[slot, self._last])
        if not stored or (self._last >= 0 and self._stream[row] - self._seen[slot] >= self._codec.ttl_ms):
            self._ready.pop(slot, None)
            self._seen[slot] = time
            return self._codec.new()
        ready = self._ready.pop(slot, None)
        return self._codec.load(stored) if ready is None else ready

    def store(self, row: int, time: int, state: Any) -> None:
        """The state that the row leaves.

        Raises:
            UnfitError: it cannot be stored.
        """
        stored, ready = self._codec.check(state)
        slot = self._slot_of.get(row)
        if slot is not None:
            self._bytes[slot], self._ready[slot] = stored, ready
            if self._last >= 0:
                self._seen[slot] = max(self._seen[slot], time)

    def keep(self) -> None:
        """Write all of it to the table; undone with the batch."""
        if not self._bytes:
            return
        slots = np.fromiter(self._bytes, np.int64, len(self._bytes))
        self._table.touch(slots)
        self._table.set_blobs(self._bytes)
        if self._last >= 0:
            self._table.rows[slots, self._last] = [self._seen[slot] for slot in self._bytes]


def _spans(tasks: tuple[TaskRows, ...], rows: list[int]) -> tuple[TaskRows, ...]:
    """The tasks' spans when only `rows` of the batch are left."""
    bounds = np.searchsorted(rows, [[span.start, span.stop] for span in tasks]).tolist()
    return tuple(TaskRows(span.task, start, stop) for span, (start, stop) in zip(tasks, bounds, strict=True))
