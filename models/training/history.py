"""What a model learns from: the rows that serving would have given it, with what became known of them."""

from __future__ import annotations

__all__ = ["DAY_MS", "History", "Metric"]

import hashlib

import msgspec
import numpy as np
import numpy.typing as npt

DAY_MS = 86_400_000
Metric = dict[str, float]


class History(msgspec.Struct, frozen=True):
    """Payments, about in the order of arrival: those of a piece of a file lie by partition.

    `matrix`: float32 (rows, features), NaN where a value is missing. `labels`: int8, 1 fraud, 0 legitimate, -1 never
    labelled. `times`: int64, ms. `cards`: int64, a number for each card.
    """

    names: tuple[str, ...]
    matrix: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int8]
    times: npt.NDArray[np.int64]
    cards: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.intp]) -> History:
        """Only `rows` (indices)."""
        return History(self.names, self.matrix[rows], self.labels[rows], self.times[rows], self.cards[rows])

    @property
    def frauds(self) -> int:
        """How many of its payments are known as frauds."""
        return int((self.labels == 1).sum())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of names and values."""
        found = hashlib.sha256("\n".join(self.names).encode())
        for part in (self.matrix, self.labels, self.times, self.cards):
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()
