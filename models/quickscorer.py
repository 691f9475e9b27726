"""Sums of a forest's leaves: QuickScorer (Lucchese et al., SIGIR 2015), column by column.

Of each row and tree, a bit a leaf says whether it may still be reached. A node takes them, of the rows for which it is
false, from the leaves where it is true leads; the lowest that is left is the row's leaf. So no load waits for the
one before, and a node is a comparison of a column with a number, of eight rows at a time where the processor can.

The leaf of a lowest bit is found where its product with a de Bruijn sequence has its highest bits, which differ for all
(Leiserson, Prokop, Randall, 1998): `_slots` puts it there.
"""

from __future__ import annotations

__all__ = ["QuickScorer", "leaf_sums"]

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.forest import LEAVES_MAX, Forest

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Masks = npt.NDArray[np.int32] | npt.NDArray[np.int64]

ROWS = 256
"""Of a block: 60 columns of as many are 60 KB."""
_PAD = 16
"""Between columns, or they would lie in the same lines of the cache."""
_ALL = -1
"""A mask with all its bits."""
_SEQUENCES = {32: (0x077CB531, 27), 64: (0x03F79D71B4CB0A89, 58)}
"""By bits of a mask: a de Bruijn sequence, and by how much its product is shifted."""


class Trees(NamedTuple):
    """A forest for `leaf_sums`: `starts`, `threshold`, `missing` and `keeps` are the `Forest`'s. `column`: which one an
    inner node looks at, of those that any does. `leaves`: (trees, bits of a mask), each in its slot.
    """

    starts: Ints
    column: Ints
    threshold: Floats
    missing: npt.NDArray[np.bool_]
    keeps: Masks
    leaves: Floats
    sequence: int
    shift: int


class QuickScorer:
    """A forest, ready to be asked."""

    def __init__(self, forest: Forest, loop: Callable[[Floats, Trees, Masks, Floats], None]) -> None:
        """`loop`: `leaf_sums`, or what it was compiled to."""
        bits = 8 * forest.keeps.itemsize
        self._used, column = np.unique(forest.feature, return_inverse=True)
        self._trees = Trees(
            forest.starts, column, forest.threshold, forest.missing, forest.keeps, _slots(forest.leaves, bits),
            *_SEQUENCES[bits],
        )  # fmt: skip
        self._base = forest.base
        self._loop = loop

    def sums(self, matrix: Floats) -> Floats:
        """Of each row of (rows, features): (rows, 1), in the order of the trees, the base last."""
        found = np.empty(len(matrix), np.float32)
        columns = np.empty((len(self._used), ROWS + _PAD), np.float32)
        bits = np.empty(ROWS, self._trees.keeps.dtype)
        for start in range(0, len(matrix), ROWS):
            block = found[start : start + ROWS]
            np.copyto(columns[:, : len(block)], matrix[start : start + ROWS, self._used].T)
            self._loop(columns, self._trees, bits, block)
        found += self._base
        return found[:, None]


def leaf_sums(columns: Floats, trees: Trees, bits: Masks, sums: Floats) -> None:
    """Write the sum of each row's leaves into `sums`, (rows,).

    Args:
        columns: of the features that nodes look at, of at least as many rows.
        trees: what is summed.
        bits: scratch, a mask a row.
        sums: in the order of the trees, as float32.
    """
    rows, last = len(sums), trees.leaves.shape[1] - 1
    for row in range(rows):
        sums[row] = 0
    for tree in range(len(trees.starts) - 1):
        for row in range(rows):
            bits[row] = _ALL
        for node in range(trees.starts[tree], trees.starts[tree + 1]):
            values, limit, keep = columns[trees.column[node]], trees.threshold[node], trees.keeps[node]
            if trees.missing[node]:
                for row in range(rows):
                    bits[row] &= keep if values[row] > limit else _ALL
            else:
                for row in range(rows):
                    bits[row] &= _ALL if values[row] <= limit else keep
        for row in range(rows):
            left = int(bits[row])
            sums[row] += trees.leaves[tree, ((left & -left) * trees.sequence >> trees.shift) & last]


def _slots(leaves: Floats, bits: int) -> Floats:
    """Each leaf where `leaf_sums` looks for it."""
    sequence, shift = _SEQUENCES[bits]
    place = [((1 << leaf) * sequence >> shift) & (bits - 1) for leaf in range(bits)]
    found = np.empty((len(leaves), bits), np.float32)
    found[:, place] = leaves[:, : min(bits, LEAVES_MAX)]
    return found
