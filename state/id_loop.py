"""Ids of a task's rows, judged and remembered one by one: a plain loop, as machine code where it can be made.

It does to the log (`state.entries`) and its index (`state.id_index`) what `operators.deduplicate` says of each row, in
the order of rows. All is int64 but `tags` (uint8), `low` (uint32), actions (uint8) and verdicts (bool): hashes are
taken by their bits.
"""

from __future__ import annotations

__all__ = ["HELPERS", "Judge", "compiled_judge", "judge"]

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from state.compiling import compiled

I64 = npt.NDArray[np.int64]
Arrays = tuple[npt.NDArray[Any], ...]
Judge = Callable[[Arrays, I64, Arrays, I64], bool]
_WAYS = 8  # slots of a bucket
_LOW = (1 << 32) - 1
_BITS = 10  # of a number, within a chunk of the log


FIRST, STOP, ORIGIN, BUCKETS, ROUND, HORIZON, STREAM, BEGIN, NEXT, END, MADE, TOOK = range(12)  # of `Log.numbers`
NUMBERS = 12
_ID_LO, _ID_HI, _PAYLOAD, _AT = range(4)  # of what is known of a row
ROW, THEN, BEFORE, PLACE = range(4)  # of an entry that is made


class Log(NamedTuple):
    """The log and its index.

    `numbers`: the first entry and one past the last one, the chunk that `begins` begin with, buckets that there are
    and that the round began with, how long an entry lives, stream time (ms). How far it has come: the first entry of
    the batch, the next row, the end of the rows, where in `made` the batch's first entry is, how many took a slot.
    Then the columns of entries; and by slot of the index the tags and the low bits of numbers.
    """

    numbers: I64
    begins: I64
    lo: I64
    hi: I64
    digest: I64
    time: I64
    action: npt.NDArray[np.uint8]
    tags: npt.NDArray[np.uint8]
    low: npt.NDArray[np.uint32]


class Verdicts(NamedTuple):
    """Of each row of the batch, see `operators.deduplicate.DuplicateFlags`."""

    duplicate: npt.NDArray[np.bool_]
    reused: npt.NDArray[np.bool_]
    first_action: npt.NDArray[np.uint8]
    first_row: I64


def judge(ids: Arrays, rows: I64, verdicts: Arrays, made: I64) -> bool:
    """Go on with a task's rows; there is room in the log for the entries of all.

    Args:
        ids: a `Log`.
        rows: (4, rows of the batch) the two words of the id's hash, the payload's digest, event time (ms).
        verdicts: `Verdicts`, of new rows.
        made: (4, rows of the batch) is filled, for each entry that is made: its row, the stream time then, the entry
            that was there before the batch and whose slot it took, or -1, and where it lies in the log's columns.

    Returns:
        Whether all is done; if not, one of the next row's buckets needs room.
    """
    log, said = Log(*ids), Verdicts(*verdicts)
    begin, shift = log.numbers[BEGIN], log.numbers[MADE] - log.numbers[BEGIN]
    for row in range(log.numbers[NEXT], log.numbers[END]):
        log.numbers[NEXT] = row
        lo, hi, digest, time = rows[_ID_LO, row], rows[_ID_HI, row], rows[_PAYLOAD, row], rows[_AT, row]
        stream = log.numbers[STREAM] = max(log.numbers[STREAM], time)
        number, slot = find(log, lo, hi)
        if number >= 0:
            at = place(log, number)
            if stream - log.time[at] <= log.numbers[HORIZON]:
                if log.digest[at] == digest:
                    said.duplicate[row] = True
                    if number >= begin:
                        said.first_row[row] = made[ROW, number + shift]
                    else:
                        said.first_action[row] = log.action[at]
                    continue
                said.reused[row] = True
        else:
            slot = free_slot(log, lo, hi)
            if slot < 0:
                return False
        own = log.numbers[STOP]
        at = place(log, own)
        made[ROW, own + shift], made[THEN, own + shift], made[PLACE, own + shift] = row, stream, at
        took = 0 <= number < begin
        made[BEFORE, own + shift] = number if took else -1
        log.numbers[TOOK] += took
        log.lo[at], log.hi[at], log.digest[at], log.time[at], log.action[at] = lo, hi, digest, time, 0
        log.tags[slot], log.low[slot] = tag_of(hi), own & _LOW
        log.numbers[STOP] = own + 1
    return True


def place(log: Log, number: int) -> int:
    """Where an entry lies in the columns."""
    return int(log.begins[(number >> _BITS) - log.numbers[ORIGIN]]) + (number & ((1 << _BITS) - 1))


def tag_of(hi: int) -> int:
    """A byte of a hash, never 0."""
    return max((hi >> 56) & 255, 1)


def base_of(log: Log, word: int) -> int:
    """The first slot of a word's bucket."""
    bucket = word & (2 * int(log.numbers[ROUND]) - 1)
    return _WAYS * (bucket if bucket < log.numbers[BUCKETS] else bucket - int(log.numbers[ROUND]))


def number_in(log: Log, slot: int) -> int:
    """The latest number with the low bits that stand in a slot."""
    last = int(log.numbers[STOP]) - 1
    return last - (last - int(np.int64(log.low[slot])) & _LOW)


def find(log: Log, lo: int, hi: int) -> tuple[int, int]:
    """Number of the latest entry of a hash, and its slot; -1 where there is none."""
    tag = tag_of(hi)
    for word in (lo, hi):
        base = base_of(log, word)
        for slot in range(base, base + _WAYS):
            if log.tags[slot] == tag:
                number = number_in(log, slot)
                if number >= log.numbers[FIRST]:
                    at = place(log, number)
                    if log.lo[at] == lo and log.hi[at] == hi:
                        return number, slot
    return -1, -1


def free_slot(log: Log, lo: int, hi: int) -> int:
    """A slot of a hash's buckets that was never used, or else whose entry has left the log; -1: there is none."""
    for word in (lo, hi):
        base = base_of(log, word)
        for slot in range(base, base + _WAYS):
            if log.tags[slot] == 0:
                return slot
    for word in (lo, hi):
        base = base_of(log, word)
        for slot in range(base, base + _WAYS):
            if number_in(log, slot) < log.numbers[FIRST]:
                return slot
    return -1


HELPERS = (place, tag_of, base_of, number_in, find, free_slot)


@cache
def compiled_judge() -> Judge:
    """The loop as machine code.

    Raises:
        ImportError: numba is not installed.
    """
    return compiled(judge, HELPERS)
