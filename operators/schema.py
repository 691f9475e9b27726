"""What a stream's records look like: plain data that the language writes and decode, encode and the tests read."""

from __future__ import annotations

__all__ = [
    "MINOR_LIMIT",
    "SCALE_MAX",
    "DataType",
    "FieldSpec",
    "Kind",
    "StreamSchema",
    "TopicNames",
    "check_stream",
]

from enum import StrEnum
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from state.errors import ConfigError

MINOR_LIMIT: Final = 2**53  # |minor units| of a decimal stay below: exact in a float64 too
SCALE_MAX: Final = 15  # 10**15 minor units still lie below it
_TOKEN_KEY_BYTES = range(16, 65)  # what keyed blake2b takes, without the keys one can guess


class Kind(StrEnum):
    """The types of the language; the comment gives the physical numpy dtype of a column."""

    INT64 = "int64"  # int64
    FLOAT64 = "float64"  # float64; never NaN or infinite: those are NULL
    DECIMAL = "decimal"  # int64, in minor units (12.34 as decimal(2) is 1234), |value| < MINOR_LIMIT
    STRING = "string"  # object (str); "" where NULL
    BOOL = "bool"  # bool_
    TIMESTAMP = "timestamp"  # int64, ms since the epoch, UTC


class DataType(msgspec.Struct, frozen=True):
    """A type; `scale` is the number of decimals of a DECIMAL and 0 otherwise."""

    kind: Kind
    scale: int = 0

    @property
    def dtype(self) -> npt.DTypeLike:
        """Physical numpy dtype of a column of this type."""
        return _DTYPES[self.kind]

    @property
    def blank(self) -> int | float | str | bool:
        """What stands under a NULL where nothing else does, in physical form."""
        return _BLANKS.get(self.kind, 0)

    def __str__(self) -> str:
        return f"decimal({self.scale})" if self.kind is Kind.DECIMAL else str(self.kind)


_DTYPES: dict[Kind, npt.DTypeLike] = {
    Kind.INT64: np.int64,
    Kind.FLOAT64: np.float64,
    Kind.DECIMAL: np.int64,
    Kind.STRING: np.object_,
    Kind.BOOL: np.bool_,
    Kind.TIMESTAMP: np.int64,
}
_BLANKS: dict[Kind, float | str | bool] = {Kind.STRING: "", Kind.BOOL: False, Kind.FLOAT64: 0.0}


class FieldSpec(msgspec.Struct, frozen=True):
    """One declared field of a stream.

    `source` is the name in the record (`from:`), `name` the column's. `pan` fields are strings that are
    replaced by a keyed token at decode. `required` fields dead-letter a record that lacks them. `encoding`: how a
    format that does not say so itself writes it (see operators/wire.py); "": as JSON. `made`: an earlier stage made it;
    a decimal of these may be as large as int64.
    """

    name: str
    type: DataType
    source: str
    pan: bool = False
    required: bool = False
    encoding: str = ""
    made: bool = False


class StreamSchema(msgspec.Struct, frozen=True):
    """A declared input stream.

    `deduplicate_ms` is 0 for none. `max_ahead_ms` bounds how far an event time may lie after the record's
    log timestamp. `extra_refused` makes records with undeclared fields dead letters. `format`: json, debezium or avro.
    `reader_schema`: an Avro schema (JSON) that all writers' ones are read by; "": each is read as it was written.
    `registry`: where Avro's schemas are found by their id, a URL or `file:DIR`. `wait_ms`: how long rows of the stage's
    other streams wait for it when it lags.
    """

    name: str
    topic: str
    fields: tuple[FieldSpec, ...]
    id: str
    event_time: str
    key: str
    deduplicate_ms: int = 0
    max_ahead_ms: int = 86_400_000
    extra_refused: bool = False
    format: str = "json"
    reader_schema: str = ""
    registry: str = ""
    wait_ms: int = 1000

    def field(self, name: str) -> FieldSpec:
        """The field called `name`; KeyError if there is none."""
        for spec in self.fields:
            if spec.name == name:
                return spec
        raise KeyError(name)


class TopicNames(msgspec.Struct, frozen=True):
    """The topics a pipeline writes; side outputs (`to:`) by their name. `decisions`: "" where none are made; `alerts`,
    `late`: "" where nothing is timed.
    """

    decisions: str
    dead_letters: str
    journal: str
    side: dict[str, str] = {}
    alerts: str = ""
    late: str = ""


def check_stream(schema: StreamSchema, pan_key: bytes | None) -> None:
    """Refuse a stream that cannot be decoded; the language refuses most of it earlier, with a place.

    Raises:
        ConfigError: it contradicts itself, or its card numbers have no key.
    """
    names = [spec.name for spec in schema.fields]
    sources = [spec.source for spec in schema.fields]
    for what, given in (("name", names), ("source", sources)):
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise ConfigError(f"stream {schema.name}: two fields have the {what} {twice[0]}")
    wanted = {
        "id": (schema.id, (Kind.STRING, Kind.INT64)),
        "key": (schema.key, (Kind.STRING, Kind.INT64)),
        "event_time": (schema.event_time, (Kind.TIMESTAMP,)),
    }
    for role, (name, kinds) in wanted.items():
        if name not in names:
            raise ConfigError(f"stream {schema.name}: {role} names no field: {name}", hint=f"declare {name}")
        if schema.field(name).type.kind not in kinds:
            expected = " or ".join(kinds)
            raise ConfigError(f"stream {schema.name}: {role} {name} is {schema.field(name).type}, not {expected}")
    for spec in schema.fields:
        if spec.type.scale > SCALE_MAX:
            raise ConfigError(f"stream {schema.name}: {spec.name} has more than {SCALE_MAX} decimals")
        if spec.pan and spec.type.kind is not Kind.STRING:
            raise ConfigError(f"stream {schema.name}: card number {spec.name} is {spec.type}, not string")
    if any(spec.pan for spec in schema.fields) and (pan_key is None or len(pan_key) not in _TOKEN_KEY_BYTES):
        problem = "there is no key" if pan_key is None else "the key is not 16 to 64 bytes long"
        raise ConfigError(
            f"stream {schema.name} declares card numbers and {problem}",
            hint="set pan_key (STREAMPROC_SECRET): 32 random bytes, the same in all workers",
        )
