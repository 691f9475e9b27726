"""Records of other formats, and of tables: kept or refused one by one, within bounds; hypothesis for what lies in logs
and for the language.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.decode import Decoded
from operators.live_tables import IMPLIED, TableRows, row_json
from operators.schema import DataType, Kind
from operators.tables import TableSchema
from state.errors import ConfigError, EventLogError, StateCorruptedError
from tests.fuzz.kit import bounded, fuzz, traced
from tests.fuzz.test_language import read_expression
from tests.fuzz.test_stored import ENTRY, read_entry, read_packed, read_sealed, resealed
from tests.operators import test_avro, test_debezium
from tests.operators.samples import examples

# ---- records of tables

TABLE = TableSchema(
    "limits", "id",
    {
        "id": DataType(Kind.STRING), "top": DataType(Kind.DECIMAL, 2), "hot": DataType(Kind.BOOL),
        "n": DataType(Kind.INT64), "x": DataType(Kind.FLOAT64), "name": DataType(Kind.STRING),
        "since": DataType(Kind.TIMESTAMP), **IMPLIED,
    },
)  # fmt: skip
ROW = {"top": "12.34", "hot": True, "n": 7, "x": 1.5, "name": "müller", "since": "2020-01-01T00:00:00Z", "expires": 5}
ROWS = [
    json.dumps(ROW).encode(),
    json.dumps([ROW, {**ROW, "valid_from": 5, "expires": None}], ensure_ascii=False).encode(),
    b'{"name":"a","n":-1,"reason":"x","added_at":"2020-01-01"}',
]


def read_row(value: bytes) -> None:
    """What is kept can be looked up, and written."""
    rows = TableRows(TABLE)
    if (said := rows.apply(b"a", value)) is not None:
        assert said.isascii()
        assert not rows.of
        return
    rows.snapshot()
    if kept := rows.of.get("a"):
        row_json(TABLE, kept).decode()
        json.dumps(kept, allow_nan=False)
        "".join(str(cell) for row in kept for cell in row.values()).encode()


@pytest.mark.parametrize(
    "value", [b'{"name":"\\ud800"}', b'{"x":1e999}', b'{"x":"-1e400"}', b'{"n":' + b"9" * 5_000 + b"}", b"[" * 100_000]
)
def test_what_no_row_of_a_table_can_hold(value: bytes) -> None:
    """Half a pair of surrogates would be refused by whatever writes the decision that shows it."""
    rows = TableRows(TABLE)
    with bounded(len(value)):
        assert rows.apply(b"a", value) is not None


# ---- records of streams

AVRO = test_avro.of("string"), test_avro.Registry(test_avro.SCHEMA)
CHANGES = test_debezium.customers({"x": "timestamp x", "y": "decimal(2) y unscaled", "lsn": "int64 __source_lsn"})


def alone(found: Decoded) -> None:
    """The good records at both ends are there; the one between is, too, or is refused or was a tombstone."""
    assert {0, 2} <= set(found.rows.tolist())
    assert {reject.index for reject in found.rejects} <= {1}
    assert all(reject.detail.isascii() for reject in found.rejects)


def read_avro(value: bytes) -> None:
    alone(test_avro.decode(*AVRO, test_avro.GOOD, value, test_avro.GOOD))


def read_change(value: bytes) -> None:
    alone(test_debezium.decode(CHANGES, test_debezium.GOOD, value, test_debezium.GOOD))


TARGETS = {
    "table": (ROWS, read_row),
    "avro": ([test_avro.GOOD], read_avro),
    "debezium": ([test_debezium.GOOD, test_debezium.MONGOS], read_change),
}


@pytest.mark.parametrize("target", TARGETS)
def test_mutants(target: str) -> None:
    corpus, read = TARGETS[target]
    fuzz(target, corpus, read, (), count=1000)
    with traced():
        fuzz(target, corpus, read, (), count=150, first=100_000)


# ---- by hypothesis

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
PARTS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=6) | st.binary(max_size=40)
PACKED = st.recursive(PARTS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
WORDS_OF_EXPRESSIONS = ["amount", "(", ")", ",", "1", "'x'", "and", "not", "previous", "count", "=", "case"]
FIELDS: dict[str, Any] = msgspec.structs.asdict(ENTRY)
"""Of a journal record, in the order in which they are written."""


@examples(200)
@given(JSON)
def test_any_sealed_record(body: Any) -> None:
    with pytest.raises(StateCorruptedError), bounded(10_000):
        read_sealed(resealed(json.dumps(body).encode()))


@examples(300)
@given(st.dictionaries(st.sampled_from(list(FIELDS)), PACKED, max_size=3))
def test_any_part_of_a_journal_record(changes: dict[str, Any]) -> None:
    body = msgspec.msgpack.encode([changes.get(name, value) for name, value in FIELDS.items()])
    try:
        with bounded(len(body)):
            read_entry(body)
    except StateCorruptedError:
        assert changes


@examples(300)
@given(st.one_of(PACKED, st.tuples(PACKED, PACKED, PACKED, PACKED)))
def test_any_packed_records(parts: Any) -> None:
    body = msgspec.msgpack.encode(parts)
    try:
        with bounded(len(body)):
            read_packed(body)
    except EventLogError:
        pass


@examples(100)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(WORDS_OF_EXPRESSIONS), max_size=12).map(" ".join),
    )
)
def test_any_expression(text: str) -> None:
    try:
        with bounded(len(text)):
            read_expression(text)
    except ConfigError:
        pass
