"""Columns -> the messages of Arrow record batches: for few rows, several times faster than Arrow's own writer.

The columns of a batch are brought into shape once, then written for any ranges of its rows. What is written is, byte by
byte, what `pyarrow.RecordBatch.serialize` gives for these rows alone. The message's head is taken from pyarrow for a
row of the schema, and only numbers in it change: they stand at fixed places.

    head    int64: .. body length .. rows .. (offset, length) of each buffer .. (rows, NULLs) of each column
    body    buffers, each padded to 8 bytes: bits of what is not NULL, if something is; a text's ends; values
"""

from __future__ import annotations

__all__ = ["BatchWriter", "Values"]

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.record_loop import BIT, PLAIN, TEXT, WORD, Loop, Prepared, compiled_loop
from state.compiling import can_compile, made_or_told

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Values = tuple[Sequence[Any] | npt.NDArray[Any], Mask | None]
"""Of a column: one value a row; what is not NULL, None if nothing is."""

_FEW = 24  # up to so many texts are joined here in less time than pyarrow takes for one


class _Run(NamedTuple):
    """Columns begin .. end of the schema, next to each other and of one form: the first is number `at` of its form."""

    form: int
    begin: int
    end: int
    at: int


class BatchWriter:
    """Writes record batches of `schema`, of int64, float64, uint64, uint8, bool, string and fixed binary columns."""

    def __init__(self, schema: pa.Schema) -> None:
        types = [field.type for field in schema]
        forms = self._forms = [_form(of) for of in types]
        reals = [at for at, of in enumerate(types) if pa.types.is_floating(of)]
        whole = [at for at, form in enumerate(forms) if form == WORD and at not in reals]
        bits, texts, plain = ([at for at, form in enumerate(forms) if form == of] for of in (BIT, TEXT, PLAIN))
        self._whole, self._reals, self._bits, self._plain = map(_picker, (whole, reals, bits, plain))
        self._texts, self._counts = texts, (len(whole), len(whole) + len(reals), len(bits))
        widths = np.array([of.bit_width >> 3 if form == PLAIN else 0 for form, of in zip(forms, types, strict=True)])
        numbers = {at: number for group in (whole + reals, bits, texts) for number, at in enumerate(group)}
        places = [numbers.get(at, before) for at, before in enumerate((widths.cumsum() - widths).tolist())]
        self._columns = np.array([forms, places, widths], np.int64).T.copy()
        self._runs = list(_runs(forms, places))
        self._head = _Head(schema, 2 * len(forms) + len(texts))
        self._lengths = _Lengths(forms, widths.tolist())
        self._loop: Loop | None = None

    def warm_up(self) -> None:
        """Batches are written by a compiled loop from now on, where it can be made."""
        self._loop = made_or_told(self._made, "blocks are written column by column") if can_compile() else None

    def _made(self) -> Loop:
        """The loop, tried once."""
        loop, size = compiled_loop(), 0
        empty = Prepared(
            np.empty((self._counts[1], size), np.int64), np.empty((self._counts[2], size), np.bool_),
            np.zeros(1, np.int32), _bytes(b""), _bytes(b""), np.empty(0, np.int64),
            np.empty((0, size), np.bool_),
        )  # fmt: skip
        loop(self._program, tuple(empty), np.empty((0, 2), np.int64), np.empty(0, np.int64))
        return loop

    @property
    def _program(self) -> tuple[I64, ...]:
        return self._columns, self._head.words, self._head.places

    def prepare(self, columns: Sequence[Values], size: int) -> Prepared:
        """Columns of `size` rows in the order of the schema; texts are str, all else is an array.

        Raises:
            UnicodeEncodeError: a text is not Unicode.
        """
        return self.lay_out(*zip(*columns, strict=True), size=size)

    def lay_out(self, values: Sequence[Any], known: Sequence[Mask | None], *, size: int) -> Prepared:
        """`prepare`, of values and of what is not NULL in them, both by column."""
        whole, numbers, flags = self._counts
        words, bits = np.empty((numbers, size), np.int64), np.empty((flags, size), np.bool_)
        _join(self._whole(values), words[:whole])
        _join(self._reals(values), words[whole:].view(np.float64))
        _join(self._bits(values), bits)
        nullable = [at for at, valid in enumerate(known) if valid is not None]
        valid = np.array([known[at] for at in nullable], np.bool_).reshape(len(nullable), size)
        ends, data = _texts([(values[at], known[at]) for at in self._texts], size)
        plain = b"".join([one.tobytes() for one in self._plain(values)])
        return Prepared(words, bits, ends, data, _bytes(plain), np.array(nullable, np.int64), valid)

    def write_all(self, rows: Prepared, edges: I64) -> list[bytes | memoryview]:
        """The messages of ranges of rows; `edges` (ranges, 2): the first, and one past the last."""
        loop = self._loop  # a thread may put it there
        if loop is None:
            return [self.write(rows, start, stop) for start, stop in edges.tolist()]
        sums = np.empty(len(edges), np.int64)
        out = loop(self._program, tuple(rows), edges, sums)
        view = memoryview(out.data).cast("B")
        return [view[start:stop] for start, stop in pairwise([0, *(8 * sums).tolist()])]

    def write(self, rows: Prepared, start: int, stop: int) -> bytes:
        """The message of rows start .. stop."""
        size = stop - start
        nulls = np.zeros(len(self._forms), np.int64)
        valid: dict[int, bytes] = {}
        if len(rows.nullable):
            known = rows.valid[:, start:stop]
            counts = size - known.sum(axis=1)
            nulls[rows.nullable] = counts
            for number, count, bits in zip(rows.nullable.tolist(), counts.tolist(), _packed(known), strict=True):
                if count:
                    valid[number] = bits.tobytes()
        begins = [at * rows.words.shape[1] for at in range(len(self._texts))]
        texts = [rows.ends.item(at + stop) - rows.ends.item(at + start) for at in begins]
        lengths = self._lengths.of(size, valid, texts)
        places = (lengths + 7 & -8).cumsum()
        parts = [self._head.of(size, nulls, lengths, places)]
        self._add_body(parts, rows, start, stop, valid=valid)
        return b"".join(parts)

    def _add_body(self, parts: list[bytes], rows: Prepared, start: int, stop: int, *, valid: dict[int, bytes]) -> None:
        """Runs of columns at once, but for those with NULLs: their bits (`valid`) come before their values."""
        words, bits = rows.words[:, start:stop], _packed(rows.bits[:, start:stop]) if len(rows.bits) else rows.bits
        for form, begin, end, at in self._runs:
            if form in {WORD, BIT}:
                matrix, done = words if form == WORD else bits, begin
                for number, known in valid.items():
                    if begin <= number < end:
                        parts += (matrix[at + done - begin : at + number - begin].tobytes(), known)
                        done = number
                parts.append(matrix[at + done - begin : at + end - begin].tobytes())
                continue
            parts.append(valid.get(begin, b""))
            if form == TEXT:
                first = at * rows.words.shape[1]
                parts += _cut(rows.ends[first + start : first + stop + 1], rows.data)
            else:
                width, first = int(self._columns[begin, 2]), at * rows.words.shape[1]
                parts.append(_padded(rows.plain[first + start * width : first + stop * width].tobytes()))


class _Lengths:
    """Of the buffers of messages of one schema, in bytes."""

    def __init__(self, forms: Sequence[int], widths: Sequence[int]) -> None:
        bits: list[int] = []
        self._validity, self._data = list[int](), list[int]()
        for form, width in zip(forms, widths, strict=True):
            self._validity.append(len(bits))
            bits += [0, {WORD: 64, BIT: 1, TEXT: 32}.get(form, 8 * width)]
            if form == TEXT:
                self._data.append(len(bits))
                bits.append(0)
        self._bits = np.array(bits)
        self._more = np.zeros(len(bits), np.int64)
        self._more[[at - 1 for at in self._data]] = 4  # a text's ends begin with 0

    def of(self, size: int, nullable: Iterable[int], texts: Sequence[int]) -> I64:
        """For `size` rows: `nullable` columns have NULLs, `texts` are the bytes of each text column."""
        lengths = (self._bits * size + 7 >> 3) + self._more
        lengths[[self._validity[number] for number in nullable]] = size + 7 >> 3
        lengths[self._data] = texts
        return lengths


class _Head:
    """Of messages of one schema: what stands before the body: `words`, int64, in which numbers are filled in; `places`:
    where in these the number of rows, the body's length, and what is said of columns and buffers stand.
    """

    def __init__(self, schema: pa.Schema, buffers: int) -> None:
        sample = pa.RecordBatch.from_arrays([_one(field.type) for field in schema], schema=schema).serialize()
        size = 8 + int.from_bytes(sample[4:8].to_pybytes(), "little")
        self.words = np.frombuffer(sample[:size].to_pybytes(), "<i8").copy()
        small = self.words.view("<i4")
        # A table begins with how far before it its list of fields lies, which says how far behind it each field is.
        message = 8 + small.item(2)
        batch = _field(small, message, 2)
        batch += small.item(batch // 4)
        self._body, self._rows = _field(small, message, 3) // 8, _field(small, batch, 0) // 8
        nodes, found = (_field(small, batch, field) for field in (1, 2))
        nodes, found = (at + small.item(at // 4) + 4 for at in (nodes, found))  # behind their numbers
        self.places = np.array([self._rows, self._body, nodes // 8, found // 8])
        self._nodes = slice(nodes // 8, nodes // 8 + 2 * len(schema))
        self._buffers = slice(found // 8, found // 8 + 2 * buffers)

    def of(self, size: int, nulls: I64, lengths: I64, ends: I64) -> bytes:
        """For `size` rows: the number of NULLs of columns; of buffers, the length, and where the padded ones end."""
        words = self.words.copy()
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


def _form(type_: pa.DataType) -> int:
    if pa.types.is_string(type_):
        return TEXT
    if pa.types.is_boolean(type_):
        return BIT
    return WORD if type_ in (pa.int64(), pa.float64(), pa.uint64()) else PLAIN


def _one(type_: pa.DataType) -> pa.Array[Any]:
    """A column of one row."""
    if _form(type_) == TEXT:
        return pa.array([""], type_)
    if pa.types.is_fixed_size_binary(type_):
        return pa.array([bytes(type_.byte_width)], type_)
    return pa.array([False]) if _form(type_) == BIT else pa.array([0], type_)


def _runs(forms: Sequence[int], places: Sequence[int]) -> Iterator[_Run]:
    """Words and bits that lie next to each other also in their matrix are one run; others stand alone."""
    begin = 0
    for at in range(1, len(forms) + 1):
        form = forms[begin]
        goes_on = at < len(forms) and form in {WORD, BIT} and forms[at] == form
        if not goes_on or places[at] != places[at - 1] + 1:
            yield _Run(form, begin, at, places[begin])
            begin = at


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What picks the columns at these places."""
    return itemgetter(*places) if len(places) > 1 else lambda columns: [columns[at] for at in places]


def _join(columns: Sequence[npt.NDArray[Any]], out: npt.NDArray[Any]) -> None:
    """Fill a matrix (columns, rows) that lies in one piece."""
    if columns:
        np.concatenate(columns, out=out.reshape(-1), casting="unsafe")


def _texts(columns: Sequence[Values], size: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Where texts end, column after column of `size` rows, after a 0; their bytes."""
    texts: list[str] = []
    for values, valid in columns:
        begin = len(texts)
        texts += values.tolist() if isinstance(values, np.ndarray) else values
        if len(texts) != begin + size:  # a loop would read what lies behind them
            raise ValueError(f"a column has {len(texts) - begin} texts for {size} rows")
        if valid is not None and 0 in valid.tobytes():
            for row in (~valid).nonzero()[0].tolist():
                texts[begin + row] = ""
    if len(texts) <= _FEW:
        parts = list(map(str.encode, texts))
        return np.array([0, *accumulate(map(len, parts))], np.int32), _bytes(b"".join(parts))
    _, ends, data = pa.array(texts, pa.string()).buffers()
    if ends is None:
        return np.zeros(1, np.int32), _bytes(b"")
    return np.frombuffer(memoryview(ends), "<i4", len(texts) + 1), _bytes(data or b"")


def _cut(ends: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]) -> tuple[bytes, bytes]:
    begin, end = ends.item(0), ends.item(-1)
    return _padded((ends - begin).tobytes()), _padded(data[begin:end].tobytes())


def _bytes(data: Any) -> npt.NDArray[np.uint8]:
    """Not to be written to, whoever made them: a loop is made anew for an array that may be."""
    return np.frombuffer(memoryview(data).toreadonly(), np.uint8)


def _packed(bits: Mask) -> npt.NDArray[np.uint8]:
    """Rows of bits, each padded to 8 bytes."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    out = np.zeros((len(bits), packed.shape[1] + 7 & -8), np.uint8)
    out[:, : packed.shape[1]] = packed
    return out


def _padded(part: bytes) -> bytes:
    return part.ljust(len(part) + 7 & -8, b"\0")
