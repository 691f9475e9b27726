"""The feature block: what a task's transaction decided, columnar, as one Arrow IPC stream.

It is the value of the journal's record; audit, archive, training, explanations and drift read this one format. It
says itself how to read it: a decimal is an int64 in minor units whose field has metadata "scale", a timestamp an
int64 in ms; the schema's metadata names the actions that `decision` counts, the rules whose bits `rules` has and, by
its file's digest, the model that gave `score` (of a registry, a column says which version).
All that this model was given is there, that of earlier stages too.

A transaction's arrays are made once and cut per task; record_batches.py writes them.
Importing pyarrow takes 28 ms, so it is not put off.
"""

from __future__ import annotations

__all__ = ["BlockEncoder", "BlockRows", "block_actions", "block_column", "block_model", "block_records", "read_block"]

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.batch import Column
from operators.decide import Decided
from operators.encode import json_values
from operators.plan import Plan
from operators.record_batches import BatchWriter
from operators.record_loop import Prepared
from operators.schema import DataType, Kind
from state.errors import ConfigError, RecordError, StateCorruptedError

FORMAT = "streamproc-block-1"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
OWN = ("offset", "event_time", "decision", "score", "rules")

_ARROW_TYPES: dict[Kind, pa.DataType] = {
    Kind.INT64: pa.int64(),
    Kind.FLOAT64: pa.float64(),
    Kind.DECIMAL: pa.int64(),
    Kind.STRING: pa.string(),
    Kind.BOOL: pa.bool_(),
    Kind.TIMESTAMP: pa.int64(),
}
_KINDS = {"int64": Kind.INT64, "double": Kind.FLOAT64, "string": Kind.STRING, "bool": Kind.BOOL}
_TYPES = {str(kind): DataType(kind) for kind in Kind}


class BlockRows(NamedTuple):
    """What names the rows; one entry a row each. `event_time`: ms; `offsets`: in the task's input."""

    ids: Sequence[str]
    keys: Sequence[str]
    offsets: npt.NDArray[np.int64]
    event_time: npt.NDArray[np.int64]


class BlockEncoder:
    """Writes the feature blocks of one plan."""

    def __init__(self, plan: Plan, action_names: Sequence[str]) -> None:
        """Fix the block's schema; `action_names` are the decider's.

        Raises:
            ConfigError: a feature has the name of a column that the block itself has.
        """
        stream, self._score = plan.stream, plan.decision.score
        names = tuple(dict.fromkeys((stream.id, stream.key)))
        carried = {*names, *_same("event_time", stream.event_time), *_same("score", self._score)}
        shown = {field.name: field for field in (*plan.features, *(plan.model.columns if plan.model else ()))}
        features = [field for name, field in shown.items() if name not in carried]
        self._carried = tuple(field.name for field in features)
        for name in (*names, *self._carried):
            if name in OWN:
                raise ConfigError(f"a feature block has a column {name} of its own", hint="give it another name")
        self._carried += (self._score,) if self._score else ()
        self._one_name = len(names) == 1
        self._words = max(1, -(-len(plan.rules) // 64))
        fields = [_field(name, _TYPES["string"]) for name in names]
        fields += [_field("offset", _TYPES["int64"]), _field("event_time", _TYPES["timestamp"])]
        fields += [_field(field.name, field.type) for field in features]
        fields += [_field("score", _TYPES["float64"]), pa.field("decision", pa.uint8())]
        fields.append(pa.field("rules", pa.uint64() if self._words == 1 else pa.binary(8 * self._words)))
        described: dict[bytes | str, bytes | str] = {
            "format": FORMAT,
            "actions": msgspec.json.encode(list(action_names)).decode(),
            "rules": msgspec.json.encode([rule.id for rule in plan.rules]).decode(),
        }
        if plan.model is not None and plan.model.digest:
            described["model"] = plan.model.digest
        self._schema = pa.schema(fields, metadata=described)
        self._head = self._schema.serialize().to_pybytes()
        self._digest = hashlib.sha256(self._head)
        self._writer = BatchWriter(self._schema)

    def arrays(self, rows: BlockRows, decided: Decided, columns: Mapping[str, Column]) -> Prepared:
        """All rows of a batch as they will be written, made once for all its tasks.

        Raises:
            RecordError: a column holds text that is not Unicode (only a user's operator can make that).
        """
        size = len(rows.ids)
        names = [rows.ids] if self._one_name else [rows.ids, rows.keys]
        carried = [columns[name] for name in self._carried]
        scores = [] if self._score else [np.zeros(size)]
        values: list[Any] = [*names, rows.offsets, rows.event_time, *[column.values for column in carried], *scores]
        known = [*[None] * (len(names) + 2), *[column.valid for column in carried], *[None] * (len(scores) + 2)]
        try:
            return self._writer.lay_out([*values, decided.action, self._hits(decided.live)], known, size=size)
        except UnicodeEncodeError:
            raise RecordError("not_unicode", "a feature holds text that is not Unicode") from None

    def prepare(self) -> None:
        """Blocks are written by a compiled loop from now on, where it can be made."""
        self._writer.warm_up()

    def encode_all(self, arrays: Prepared, edges: npt.NDArray[np.int64]) -> list[bytes]:
        """The blocks of ranges of rows; `edges` (ranges, 2): the first row, and one past the last."""
        return [b"".join((self._head, message, _END_OF_STREAM)) for message in self._writer.write_all(arrays, edges)]

    def digest(self, block: bytes) -> bytes:
        """SHA-256 of a block of these; what all begin with is hashed once."""
        digest = self._digest.copy()
        digest.update(memoryview(block)[len(self._head) :])
        return digest.digest()

    def encode(self, arrays: Prepared, start: int = 0, stop: int | None = None) -> bytes:
        """The block of rows start..stop (exclusive; None: the end): an Arrow IPC stream of one batch."""
        message = self._writer.write(arrays, start, arrays.words.shape[1] if stop is None else stop)
        return b"".join((self._head, message, _END_OF_STREAM))

    def _hits(self, live: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        """The rules that hit: a uint64 a row, or 8 bytes a word (little endian) for more than 64 rules."""
        return live[:, 0].view(np.int64) if self._words == 1 else live.astype("<u8")


def read_block(block: bytes) -> pa.Table:
    """The block as an Arrow table.

    Raises:
        StateCorruptedError: these bytes are no feature block of a known format.
    """
    try:
        table = pa.ipc.open_stream(block).read_all()
        table.validate(full=True)  # else a damaged offset is read beyond its buffer
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StateCorruptedError("a feature block cannot be read") from error
    if (table.schema.metadata or {}).get(b"format") != FORMAT.encode():
        raise StateCorruptedError("a feature block has a format that this release does not know")
    return table


def block_model(table: pa.Table) -> str:
    """The digest of the model that gave the scores; "": the block names none."""
    return (table.schema.metadata or {}).get(b"model", b"").decode("ascii", "replace")


def block_actions(block: bytes) -> tuple[str, ...]:
    """The actions that a block's decisions count; the rows are not read.

    Raises:
        StateCorruptedError: these bytes are no feature block.
    """
    try:
        metadata = pa.ipc.read_schema(pa.py_buffer(block)).metadata or {}
        return msgspec.json.decode(metadata[b"actions"], type=tuple[str, ...])
    except (pa.ArrowException, msgspec.MsgspecError, LookupError, OSError, ValueError) as error:
        raise StateCorruptedError("a feature block cannot be read") from error


def block_column(table: pa.Table, name: str) -> Column:
    """A feature of all rows.

    Raises:
        KeyError: the block has no such column.
        StateCorruptedError: it is of no kind that ours has.
    """
    field, column = table.schema.field(name), table.column(name)
    try:
        return _column(field, column)
    except (pa.ArrowException, LookupError, TypeError, ValueError) as error:
        raise StateCorruptedError("a feature block has columns that none of ours has") from error


def block_records(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a block as dictionaries with the names and values of the decision's JSON.

    `decision` is the action's name, `rules` the ids of the live rules that hit; write them with
    `operators.encode.json_encoder`, which keeps decimals exact.

    Raises:
        StateCorruptedError: these are no columns of a feature block.
    """
    try:
        return _records(table)
    except (pa.ArrowException, msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
        raise StateCorruptedError("a feature block has columns that none of ours has") from error


def _records(table: pa.Table) -> list[dict[str, Any]]:
    metadata = table.schema.metadata
    actions: list[str] = msgspec.json.decode(metadata[b"actions"])
    rules: list[str] = msgspec.json.decode(metadata[b"rules"])
    values: dict[str, list[Any]] = {}
    for field in table.schema:
        column: Any = table.column(field.name)
        if field.name == "decision":
            values[field.name] = [actions[code] for code in column.to_pylist()]
        elif field.name == "rules":
            values[field.name] = [_rule_ids(mask, rules) for mask in column.to_pylist()]
        else:
            values[field.name] = json_values(_column(field, column))
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _same(own: str, name: str | None) -> set[str]:
    """`own`, if the plan's column of that meaning has the same name: then the block carries it anyway."""
    return {own} if name == own else set()


def _field(name: str, of_type: DataType) -> pa.Field[Any]:
    metadata: dict[bytes | str, bytes | str] | None = None
    if of_type.kind is Kind.DECIMAL:
        metadata = {"scale": str(of_type.scale)}
    return pa.field(name, _ARROW_TYPES[of_type.kind], metadata=metadata)


def _column(field: pa.Field[Any], values: Any) -> Column:
    """An Arrow column as ours; a timestamp comes back as the int64 it is in JSON."""
    scale = (field.metadata or {}).get(b"scale")
    of_type = DataType(_KINDS[str(field.type)]) if scale is None else DataType(Kind.DECIMAL, int(scale))
    valid = None
    if values.null_count:
        valid = np.asarray(values.is_valid().to_numpy(), np.bool_)
        values = values.fill_null(of_type.blank)
    return Column(of_type, values.to_numpy(), valid)


def _rule_ids(mask: int | bytes, rules: list[str]) -> list[str]:
    bits = int.from_bytes(mask, "little") if isinstance(mask, bytes) else mask
    return [rule for i, rule in enumerate(rules) if bits >> i & 1]
