"""What was decided, beside what became known: columns, one entry a payment."""

from __future__ import annotations

__all__ = ["BLOCKING", "CHALLENGING", "Decisions", "Groups", "grouped"]

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.training.history import History

BLOCKING = ("decline", "block", "block_and_review", "reject", "deny")
"""What actions are called that refuse a payment."""
CHALLENGING = ("challenge", "step_up", "3ds")
"""What actions are called that ask the card holder."""


class Groups(msgspec.Struct, frozen=True):
    """Payments by a value that they share. `codes`: int64, of each payment: a place in `values`; -1: of none."""

    name: str
    values: tuple[str, ...]
    codes: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[Any]) -> Groups:
        """Only the payments `rows` (indices, or a mask)."""
        return Groups(self.name, self.values, self.codes[rows])


def grouped(name: str, values: Sequence[Hashable]) -> Groups:
    """By equal values; None is of no group.

    >>> found = grouped("country", ["be", None, "fr", "be"])
    >>> found.values, found.codes.tolist()
    (('be', 'fr'), [0, -1, 1, 0])
    """
    codes: dict[Hashable, int] = {None: -1}
    found = [codes.setdefault(value, len(codes) - 1) for value in values]
    return Groups(name, tuple(str(value) for value in codes if value is not None), np.array(found, np.int64))


class Decisions(msgspec.Struct, frozen=True):
    """Payments, in the order of `rows`.

    `actions`: names, most severe first, the last one is what payments get that nothing was said about. `rules`: names.
    `rows`: int64, rising: which payment of the input it is. `action`: uint8, place in `actions`. `hits`: bool
    (payments, rules), which rules hit. `scores`: float64, 0-100; NaN: none. `labels`: int8, 1 fraud, 0 legitimate, -1
    not known. `times`: int64, ms. `cards`: int64, a number for each card. `amounts`: float64; NaN: not known.
    `kind`: of frauds. `shadow`: places in `rules` of those that say nothing.
    """

    actions: tuple[str, ...]
    rules: tuple[str, ...]
    shadow: frozenset[int]
    rows: npt.NDArray[np.int64]
    action: npt.NDArray[np.uint8]
    hits: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int8]
    times: npt.NDArray[np.int64]
    cards: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.float64]
    kind: Groups | None = None
    segments: tuple[Groups, ...] = ()

    @property
    def alerted(self) -> npt.NDArray[np.bool_]:
        """Which got another action than the mildest."""
        alerted: npt.NDArray[np.bool_] = self.action != len(self.actions) - 1
        return alerted

    def whose(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which got one of these actions."""
        wanted: npt.NDArray[np.bool_] = np.array([action in names for action in self.actions])
        return wanted[self.action]

    def take(self, rows: npt.NDArray[Any]) -> Decisions:
        """Only the payments `rows` (rising indices, or a mask)."""
        columns = ("rows", "action", "hits", "scores", "labels", "times", "cards", "amounts")
        taken: dict[str, Any] = {name: getattr(self, name)[rows] for name in columns}
        taken["kind"] = self.kind and self.kind.take(rows)
        taken["segments"] = tuple(one.take(rows) for one in self.segments)
        return msgspec.structs.replace(self, **taken)

    @property
    def judged(self) -> Decisions:
        """Those whose label is known and that have a score: what a model can be judged by."""
        return self.take((self.labels >= 0) & ~np.isnan(self.scores))

    @property
    def history(self) -> History:
        """As the metrics of training take them; without features."""
        return History((), np.empty((len(self.rows), 0), np.float32), self.labels, self.times, self.cards)

    def labelled_before(self, at: int) -> Decisions:
        """Labels of payments since then (ms) are not known."""
        return msgspec.structs.replace(self, labels=np.where(self.times >= at, np.int8(-1), self.labels))
