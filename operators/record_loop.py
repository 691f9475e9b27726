"""Record batches of all tasks in one pass: a plain loop, as machine code where it can be made.

It writes what `record_batches.BatchWriter.write` does for each range of rows; a schema is described to it by numbers,
so that one machine code fits all.
"""

from __future__ import annotations

__all__ = ["BIT", "HELPERS", "PLAIN", "TEXT", "WORD", "Arrays", "Loop", "Prepared", "Program", "compiled_loop", "write"]

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from state.compiling import compiled

I64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Ends = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Arrays = tuple[npt.NDArray[Any], ...]
Loop = Callable[[tuple[I64, ...], Arrays, I64, I64], I64]

WORD, BIT, TEXT, PLAIN = range(4)


class Program(NamedTuple):
    """A schema in numbers.

    `columns` (n, 3): the form of each, its number among those of the form (of plain ones: how many bytes a row has
    before it), and its bytes a row, if it is plain. `head`: what stands before a body. `places`: where in that stand
    the number of rows, the body's length, what is said of columns, and of buffers.
    """

    columns: I64
    head: I64
    places: I64


class Prepared(NamedTuple):
    """The rows of a batch.

    `words`, `bits` (columns, rows). `ends`: where texts end in `data`, the bytes of all, column after column, behind a
    0. `plain`: bytes, of all rows of a column, then of the next one. `nullable`: the numbers of columns that may have
    NULLs, and `valid` (columns, rows) which of their values are none.
    """

    words: I64
    bits: Mask
    ends: Ends
    data: Bytes
    plain: Bytes
    nullable: I64
    valid: Mask


def write(program: tuple[I64, ...], rows: Arrays, edges: I64, sums: I64) -> I64:
    """The messages of ranges of rows, one behind the other; arguments are plain tuples, see `Program` and `Prepared`.

    Args:
        program: of the schema.
        rows: of the batch.
        edges: (ranges, 2) of rows, first and one past the last.
        sums: (ranges,) is filled: where each message ends, in words.

    Returns:
        The bytes of all, as words.
    """
    p, of = Program(*program), Prepared(*rows)
    nulls = nulls_of(len(p.columns), of, edges)
    out, to = np.zeros(add_up(p, of, edges, nulls, sums), np.int64), 0
    small, which = out.view(np.uint8), np.zeros(len(p.columns), np.int64)
    for number in range(len(of.nullable)):
        which[of.nullable[number]] = number
    for task in range(len(edges)):
        start, size = edges[task, 0], edges[task, 1] - edges[task, 0]
        put_words(out, to, p.head, 0, len(p.head))
        body = to + len(p.head)
        out[to + p.places[0]], out[to + p.places[1]] = size, 8 * (sums[task] - body)
        node, buffer, to = to + p.places[2], to + p.places[3], body
        for column in range(len(p.columns)):
            missing = nulls[task, column]
            out[node], out[node + 1] = size, missing
            node += 2
            out[buffer], out[buffer + 1] = 8 * (to - body), 0
            if missing:
                out[buffer + 1] = size + 7 >> 3
                put_bits(out, to, of.valid[which[column]], start, size)
                to += size + 63 >> 6
            buffer += 2
            form, at, width = p.columns[column, 0], p.columns[column, 1], p.columns[column, 2]
            out[buffer] = 8 * (to - body)
            if form == TEXT:
                out[buffer + 1] = 4 * size + 4
                first = at * of.words.shape[1] + start
                put_ends(out, to, of.ends, first, size)
                to += 4 * size + 11 >> 3
                buffer += 2
                out[buffer], out[buffer + 1] = 8 * (to - body), of.ends[first + size] - of.ends[first]
                put_bytes(small, to, of.data, of.ends[first], out[buffer + 1])
            elif form == WORD:
                out[buffer + 1] = 8 * size
                put_words(out, to, of.words[at], start, size)
            elif form == BIT:
                out[buffer + 1] = size + 7 >> 3
                put_bits(out, to, of.bits[at], start, size)
            else:
                out[buffer + 1] = size * width
                put_bytes(small, to, of.plain, at * of.words.shape[1] + start * width, out[buffer + 1])
            to += out[buffer + 1] + 7 >> 3
            buffer += 2
    return out


def nulls_of(count: int, of: Prepared, edges: I64) -> I64:
    """The number of NULLs (ranges, columns)."""
    nulls = np.zeros((len(edges), count), np.int64)
    for task in range(len(edges)):
        for number in range(len(of.nullable)):
            missing = edges[task, 1] - edges[task, 0]
            for row in range(edges[task, 0], edges[task, 1]):
                missing -= np.int64(of.valid[number, row])
            nulls[task, of.nullable[number]] = missing
    return nulls


def add_up(p: Program, of: Prepared, edges: I64, nulls: I64, sums: I64) -> int:
    """Where messages end, in words; and the last of them."""
    total = 0
    for task in range(len(edges)):
        size = edges[task, 1] - edges[task, 0]
        total += len(p.head)
        for column in range(len(p.columns)):
            form, at = p.columns[column, 0], p.columns[column, 1]
            if nulls[task, column]:
                total += size + 63 >> 6
            if form == TEXT:
                first = at * of.words.shape[1]
                text = of.ends[first + edges[task, 1]] - of.ends[first + edges[task, 0]]
                total += (4 * size + 11 >> 3) + (text + 7 >> 3)
            elif form == WORD:
                total += size
            elif form == BIT:
                total += size + 63 >> 6
            else:
                total += size * p.columns[column, 2] + 7 >> 3
        sums[task] = total
    return total


def put_words(out: I64, to: int, words: I64, start: int, size: int) -> None:
    """Words as they are."""
    target, source = out[to : to + size], words[start : start + size]  # views: the loop needs no look at signs
    for at in range(size):
        target[at] = source[at]


def put_bits(out: I64, to: int, bits: Mask, start: int, size: int) -> None:
    """A bit a row, from a word on that is 0."""
    for row in range(size):
        out[to + (row >> 6)] |= np.int64(bits[start + row]) << np.int64(row & 63)


def put_ends(out: I64, to: int, ends: Ends, start: int, size: int) -> None:
    """Where texts end behind the first one's begin, after a 0: int32, of words that are 0."""
    for row in range(size + 1):
        out[to + (row >> 1)] |= np.int64(ends[start + row] - ends[start]) << np.int64((row & 1) << 5)


def put_bytes(out: Bytes, to: int, data: Bytes, start: int, length: int) -> None:
    """Bytes from a word on."""
    target, source = out[8 * to : 8 * to + length], data[start : start + length]
    for at in range(length):
        target[at] = source[at]


HELPERS = (nulls_of, add_up, put_words, put_bits, put_ends, put_bytes)


@cache
def compiled_loop() -> Loop:
    """The loop as machine code.

    Raises:
        ImportError: numba is not installed.
    """
    return compiled(write, HELPERS)
