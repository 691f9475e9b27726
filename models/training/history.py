"""What a model learns from: the rows that serving would have given it, with what became known of them."""

from __future__ import annotations

__all__ = ["DAY_MS", "History", "Metric", "joined"]

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

DAY_MS = 86_400_000
Metric = dict[str, float]


class History(msgspec.Struct, frozen=True):
    """Payments, about in the order of arrival: those of a piece of a file lie by partition.

    `matrix`: float32 (rows, features), NaN where a value is missing. `labels`: int8, 1 fraud, 0 legitimate, -1 never
    labelled. `times`: int64, ms. `cards`: int64, a number for each card. `known`: int64, ms, when the label was known;
    None: a fixed delay after the payment. `open_ended`: who has no label is legitimate, as far as was `known`.
    """

    names: tuple[str, ...]
    matrix: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int8]
    times: npt.NDArray[np.int64]
    cards: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64] | None = None
    open_ended: bool = False

    def take(self, rows: npt.NDArray[np.intp]) -> History:
        """Only `rows` (indices)."""
        known = None if self.known is None else self.known[rows]
        columns = self.matrix[rows], self.labels[rows], self.times[rows], self.cards[rows]
        return History(self.names, *columns, known, self.open_ended)

    def known_by(self, at: int) -> History:
        """As it was at a moment (ms): labels that were not known by then are none, or those of the legitimate.

        With a fixed delay it is for the caller to take no payment that is too young.
        """
        if self.known is None:
            return self
        missing = np.int8(0 if self.open_ended else -1)
        return msgspec.structs.replace(self, labels=np.where(self.known > at, missing, self.labels))

    @property
    def frauds(self) -> int:
        """How many of its payments are known as frauds."""
        return int((self.labels == 1).sum())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of names and values."""
        found = hashlib.sha256("\n".join(self.names).encode())
        for part in (self.matrix, self.labels, self.times, self.cards, self.known):
            if part is None:
                continue
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()


def joined(parts: Sequence[History]) -> History:
    """One behind the other."""
    first = parts[0]
    matrix, labels, times, cards = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("matrix", "labels", "times", "cards")
    )
    known = [part.known for part in parts if part.known is not None]
    return History(
        first.names, matrix, labels, times, cards, np.concatenate(known) if known else None, first.open_ended
    )
