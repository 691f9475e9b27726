"""Columns -> the message of an Arrow record batch: for few rows, several times faster than Arrow's own writer.

The columns of a batch are brought into shape once, then written for any range of its rows. What is written is, byte by
byte, what `pyarrow.RecordBatch.serialize` gives for these rows alone. The message's head is taken from pyarrow for a
row of the schema, and only numbers in it change: they stand at fixed places.

    head    int64: .. body length .. rows .. (offset, length) of each buffer .. (rows, NULLs) of each column
    body    buffers, each padded to 8 bytes: bits of what is not NULL, if something is; a text's ends; values
"""

from __future__ import annotations

__all__ = ["BatchWriter", "Prepared"]

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Values = tuple[Sequence[Any] | npt.NDArray[Any], Mask | None]
"""Of a column: one value a row; what is not NULL, None if nothing is."""

_FEW = 24  # up to so many texts are joined here in less time than pyarrow takes for one


class Prepared(NamedTuple):
    """The columns of a batch: 8 byte values (columns, rows), bits (columns, rows), texts as (ends, bytes), and bytes as
    matrices (rows, bytes); which are not NULL (`nullable` columns, rows).
    """

    words: I64
    bits: Mask
    texts: list[tuple[npt.NDArray[np.int32], memoryview]]
    plain: list[npt.NDArray[np.uint8]]
    nullable: list[int]
    valid: Mask


class _Run(NamedTuple):
    """Columns begin .. end of the schema, next to each other and of one form: the first is number `at` of its form."""

    form: str
    begin: int
    end: int
    at: int


class BatchWriter:
    """Writes record batches of `schema`, of int64, float64, uint64, uint8, bool, string and fixed binary columns."""

    def __init__(self, schema: pa.Schema) -> None:
        forms = [_form(field.type) for field in schema]
        self._forms, self._floats = forms, [pa.types.is_floating(field.type) for field in schema]
        self._runs = list(_runs(forms))
        self._head = _Head(schema, sum(3 if form == "text" else 2 for form in forms))
        bits: list[int] = []
        self._validity, self._data = list[int](), list[int]()
        for form, field in zip(forms, schema, strict=True):
            self._validity.append(len(bits))
            bits += [0, {"word": 64, "bit": 1, "text": 32}.get(form) or field.type.bit_width]
            if form == "text":
                self._data.append(len(bits))
                bits.append(0)
        self._bits = np.array(bits)
        self._more = np.zeros(len(bits), np.int64)
        self._more[[at - 1 for at in self._data]] = 4  # a text's ends begin with 0

    def prepare(self, columns: Sequence[Values], size: int) -> Prepared:
        """Columns of `size` rows in the order of the schema; texts are str, all else is an array.

        Raises:
            UnicodeEncodeError: a text is not Unicode.
        """
        words = np.empty((self._forms.count("word"), size), np.int64)
        bits = np.empty((self._forms.count("bit"), size), np.bool_)
        out = Prepared(words, bits, [], [], [], np.empty((0, size), np.bool_))
        reals, some = words.view(np.float64), list[Mask]()
        word = bit = 0
        for number, ((values, known), form) in enumerate(zip(columns, self._forms, strict=True)):
            valid = None if known is None or np.count_nonzero(known) == size else known
            if valid is not None:
                out.nullable.append(number)
                some.append(valid)
            if form == "word":
                (reals if self._floats[number] else words)[word] = values
                word += 1
            elif form == "bit":
                bits[bit] = values
                bit += 1
            elif form == "text":
                out.texts.append(_text(values, valid))
            else:
                assert isinstance(values, np.ndarray)
                out.plain.append(values.view(np.uint8).reshape(size, values.nbytes // max(1, size)))
        return out._replace(valid=np.array(some)) if some else out

    def write(self, rows: Prepared, start: int, stop: int) -> bytes:
        """The message of rows start .. stop."""
        size = stop - start
        lengths = (self._bits * size + 7 >> 3) + self._more
        nulls = np.zeros(len(self._forms), np.int64)
        valid: dict[int, bytes] = {}
        if rows.nullable:
            known = rows.valid[:, start:stop]
            counts = (size - known.sum(axis=1)).tolist()
            for number, count, bits in zip(rows.nullable, counts, _packed(known), strict=True):
                if count:
                    nulls[number], valid[number] = count, bits.tobytes()
                    lengths[self._validity[number]] = size + 7 >> 3
        for at, (ends, _) in zip(self._data, rows.texts, strict=True):
            lengths[at] = ends.item(stop) - ends.item(start)
        places = (lengths + 7 & -8).cumsum()
        parts = [self._head.of(size, nulls, lengths, places)]
        self._add_body(parts, rows, start, stop, valid=valid)
        return b"".join(parts)

    def _add_body(self, parts: list[bytes], rows: Prepared, start: int, stop: int, *, valid: dict[int, bytes]) -> None:
        """Runs of columns at once, but for those with NULLs: their bits (`valid`) come before their values."""
        words, bits = rows.words[:, start:stop], _packed(rows.bits[:, start:stop]) if len(rows.bits) else rows.bits
        for form, begin, end, at in self._runs:
            if form in {"word", "bit"}:
                matrix, done = words if form == "word" else bits, begin
                for number, known in valid.items():
                    if begin <= number < end:
                        parts += (matrix[at + done - begin : at + number - begin].tobytes(), known)
                        done = number
                parts.append(matrix[at + done - begin : at + end - begin].tobytes())
                continue
            for i, number in enumerate(range(begin, end), at):
                if number in valid:
                    parts.append(valid[number])
                if form == "text":
                    parts += _cut(*rows.texts[i], start, stop)
                else:
                    parts.append(_padded(rows.plain[i][start:stop].tobytes()))


class _Head:
    """Of messages of one schema: what stands before the body."""

    def __init__(self, schema: pa.Schema, buffers: int) -> None:
        sample = pa.RecordBatch.from_arrays([_one(field.type) for field in schema], schema=schema).serialize()
        size = 8 + int.from_bytes(sample[4:8].to_pybytes(), "little")
        self._words = np.frombuffer(sample[:size].to_pybytes(), "<i8").copy()
        small = self._words.view("<i4")
        # A table begins with how far before it its list of fields lies, which says how far behind it each field is.
        message = 8 + small.item(2)
        batch = _field(small, message, 2)
        batch += small.item(batch // 4)
        self._body, self._rows = _field(small, message, 3) // 8, _field(small, batch, 0) // 8
        nodes, found = (_field(small, batch, field) for field in (1, 2))
        nodes, found = (at + small.item(at // 4) + 4 for at in (nodes, found))  # behind their numbers
        self._nodes = slice(nodes // 8, nodes // 8 + 2 * len(schema))
        self._buffers = slice(found // 8, found // 8 + 2 * buffers)

    def of(self, size: int, nulls: I64, lengths: I64, ends: I64) -> bytes:
        """For `size` rows: the number of NULLs of columns; of buffers, the length, and where the padded ones end."""
        words = self._words.copy()
        words[self._rows], words[self._body] = size, ends[-1]
        nodes, buffers = words[self._nodes].reshape(-1, 2), words[self._buffers].reshape(-1, 2)
        nodes[:, 0], nodes[:, 1] = size, nulls
        buffers[0, 0] = 0
        buffers[1:, 0], buffers[:, 1] = ends[:-1], lengths
        return words.tobytes()


def _field(small: npt.NDArray[np.int32], table: int, number: int) -> int:
    """Where a field of a flatbuffers table stands."""
    places = table - small.item(table // 4)
    return table + int(small.view("<u2").item((places + 4 + 2 * number) // 2))


def _form(type_: pa.DataType) -> str:
    if pa.types.is_string(type_):
        return "text"
    if pa.types.is_boolean(type_):
        return "bit"
    return "word" if type_ in (pa.int64(), pa.float64(), pa.uint64()) else "plain"


def _one(type_: pa.DataType) -> pa.Array[Any]:
    """A column of one row."""
    if _form(type_) == "text":
        return pa.array([""], type_)
    if pa.types.is_fixed_size_binary(type_):
        return pa.array([bytes(type_.byte_width)], type_)
    return pa.array([False]) if _form(type_) == "bit" else pa.array([0], type_)


def _runs(forms: list[str]) -> Iterator[_Run]:
    seen: dict[str, int] = {}
    begin = 0
    for form, group in groupby(forms):
        end = begin + len(list(group))
        yield _Run(form, begin, end, seen.get(form, 0))
        seen[form] = seen.get(form, 0) + end - begin
        begin = end


def _text(values: Any, valid: Mask | None) -> tuple[npt.NDArray[np.int32], memoryview]:
    """Where texts end in the bytes of all, after a 0; these bytes."""
    if len(values) <= _FEW:
        listed = values if isinstance(values, list) else values.tolist()
        if valid is not None:
            listed = [text if known else "" for text, known in zip(listed, valid.tolist(), strict=True)]
        parts = list(map(str.encode, listed))
        return np.array([0, *accumulate(map(len, parts))], "<i4"), memoryview(b"".join(parts))
    array = pa.array(values, pa.string()) if valid is None else pa.array(values, pa.string(), mask=~valid)
    _, ends, data = array.buffers()
    if ends is None:
        return np.zeros(1, np.int32), memoryview(b"")
    return np.frombuffer(memoryview(ends), "<i4"), memoryview(data or b"")


def _cut(ends: npt.NDArray[np.int32], data: memoryview, start: int, stop: int) -> tuple[bytes, bytes]:
    mine = ends[start : stop + 1]
    begin, end = mine.item(0), mine.item(-1)
    return _padded((mine - begin).tobytes()), _padded(bytes(data[begin:end]))


def _packed(bits: Mask) -> npt.NDArray[np.uint8]:
    """Rows of bits, each padded to 8 bytes."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    out = np.zeros((len(bits), packed.shape[1] + 7 & -8), np.uint8)
    out[:, : packed.shape[1]] = packed
    return out


def _padded(part: bytes) -> bytes:
    return part.ljust(len(part) + 7 & -8, b"\0")
