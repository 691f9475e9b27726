"""What is written of a range of rows is what pyarrow writes for these rows alone, byte by byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators import record_batches, record_loop
from operators.record_batches import BatchWriter, Values
from operators.record_loop import Loop
from state.compiling import can_compile
from tests.operators.samples import examples

TYPES: dict[str, tuple[pa.DataType, Any, st.SearchStrategy[Any]]] = {
    "int": (pa.int64(), np.int64, st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float64(), np.float64, st.floats()),
    "unsigned": (pa.uint64(), np.uint64, st.integers(0, 2**64 - 1)),
    "byte": (pa.uint8(), np.uint8, st.integers(0, 255)),
    "bool": (pa.bool_(), np.bool_, st.booleans()),
    "text": (pa.string(), np.object_, st.text(max_size=4)),
    "binary": (pa.binary(16), "S16", st.binary(min_size=16, max_size=16)),
}
TEXT_AND_NUMBER: dict[str, pa.DataType] = {"s": pa.string(), "n": pa.int64()}
NULLABLE = {"int", "float", "bool", "text"}


def _column(kind: str, values: list[Any], valid: list[bool]) -> tuple[Values, Any]:
    """As we hold it, and as Arrow does: a number under a NULL is written as it is."""
    type_, dtype, _ = TYPES[kind]
    if kind == "binary":
        array = np.frombuffer(b"".join(values), "<u8").reshape(len(values), 2)
        return (array, None), pa.array(values, type_)
    array = np.array(values, dtype)
    mask = None if kind not in NULLABLE else np.array(valid, np.bool_)
    if kind in ("int", "float") and mask is not None and not mask.all():
        bits = pa.py_buffer(np.packbits(mask, bitorder="little").tobytes())
        return (array, mask), pa.Array.from_buffers(type_, len(values), [bits, pa.py_buffer(array.tobytes())])
    return (array, mask), pa.array(array, type_, mask=None if mask is None else ~mask)


@examples(150)
@given(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=9), st.integers(1, 70), st.data())
def test_bytes_are_those_of_pyarrow(kinds: list[str], size: int, data: st.DataObject) -> None:
    schema = pa.schema([pa.field(f"c{i}", TYPES[kind][0]) for i, kind in enumerate(kinds)], metadata={"a": "b"})
    seed = data.draw(st.integers(0, 1 << 32))
    values, valid = [], []
    for kind in kinds:
        few = data.draw(st.lists(TYPES[kind][2], min_size=1, max_size=5))
        values.append([few[i % len(few)] for i in range(size)])
        share = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
        valid.append((np.random.default_rng(seed).random(size) >= share).tolist())
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    writer = BatchWriter(schema)
    rows = writer.prepare([_column(*one)[0] for one in zip(kinds, values, valid, strict=True)], size)
    mine = [_column(k, v[start:stop], ok[start:stop])[1] for k, v, ok in zip(kinds, values, valid, strict=True)]
    want = pa.RecordBatch.from_arrays(mine, schema=schema).serialize().to_pybytes()
    assert writer.write(rows, start, stop) == want


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        BatchWriter(pa.schema([("s", pa.string())])).prepare([(np.array(["\ud800"], np.object_), None)], 1)


def test_columns_of_another_length_are_refused() -> None:
    """Only a user's operator can make such: a loop would write what lies behind their texts into the journal."""
    writer = BatchWriter(pa.schema(TEXT_AND_NUMBER))
    for texts in (["x"] * 3, ["x"] * 5):
        with pytest.raises(ValueError, match="texts for 4 rows"):
            writer.prepare([(np.array(texts, np.object_), None), (np.arange(4), None)], 4)
    with pytest.raises(ValueError, match="wrong shape"):
        writer.prepare([(["x"] * 4, None), (np.arange(3), None)], 4)


WAYS: list[Loop | None] = [record_loop.write, *[None] * can_compile()]


def _by_loop(schema: pa.Schema, loop: Loop | None) -> BatchWriter:
    """One that writes by a loop; None: by the compiled one."""
    writer = BatchWriter(schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batches, "can_compile", lambda: True)
        if loop is not None:
            patch.setattr(record_batches, "compiled_loop", lambda: loop)
        writer.warm_up()
    return writer


@examples(150)
@given(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=9), st.integers(0, 140), st.data())
def test_loops_write_what_is_written_column_by_column(kinds: list[str], size: int, data: st.DataObject) -> None:
    schema = pa.schema([pa.field(f"c{i}", TYPES[kind][0]) for i, kind in enumerate(kinds)])
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    columns = []
    for kind in kinds:
        few = data.draw(st.lists(TYPES[kind][2], min_size=1, max_size=5))
        valid = random.random(size) >= data.draw(st.sampled_from([0.0, 0.03, 1.0]))
        columns.append(_column(kind, [few[i % len(few)] for i in range(size)], valid.tolist())[0])
    edges = data.draw(st.lists(st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted), max_size=5))
    ranges = np.array(edges, np.int64).reshape(-1, 2)
    plain = BatchWriter(schema)
    want = plain.write_all(plain.prepare(columns, size), ranges)
    for loop in WAYS:
        writer = _by_loop(schema, loop)
        assert list(map(bytes, writer.write_all(writer.prepare(columns, size), ranges))) == want


def test_without_a_compiler_columns_are_written_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batches, "can_compile", lambda: False)
    monkeypatch.setattr(record_batches, "compiled_loop", lambda: pytest.fail("it was asked for"))
    writer = BatchWriter(pa.schema([("n", pa.int64())]))
    writer.warm_up()
    rows = writer.prepare([(np.arange(3), None)], 3)
    assert writer.write_all(rows, np.array([[0, 2], [2, 3]])) == [writer.write(rows, 0, 2), writer.write(rows, 2, 3)]


@pytest.mark.skipif(not can_compile(), reason="numba is not installed")
def test_no_batch_makes_the_loop_compile_again() -> None:
    writer = _by_loop(pa.schema(TEXT_AND_NUMBER), None)
    for size in (1, 24, 25, 100):  # pyarrow encodes many texts
        rows = writer.prepare([([f"t{i}" for i in range(size)], np.arange(size) > 3), (np.arange(size), None)], size)
        writer.write_all(rows, np.array([[0, size]]))
    assert len(getattr(record_loop.compiled_loop(), "signatures")) == 1  # noqa: B009
