"""Labels as they became known: by the hash of a payment's id, with times, so that any moment can be looked at again."""

from __future__ import annotations

__all__ = ["UNKNOWN", "LabelTable", "Labels"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.int8]
UNKNOWN = -1


class Labels(NamedTuple):
    """Hashes of ids, rising, those of one payment as they became known; and labels."""

    ids: Ints
    kinds: Kinds

    def of(self, ids: Ints) -> Kinds:
        """The last label of each, int8; -1: there is none."""
        if not len(self.ids):
            return np.full(len(ids), UNKNOWN, np.int8)
        places = np.searchsorted(self.ids, ids, side="right") - 1  # -1: the last one, which is another
        found: Kinds = np.where(self.ids[places] == ids, self.kinds[places], UNKNOWN).astype(np.int8)
        return found


class LabelTable:
    """At most `capacity` labels; of more, those that became known first go. 17 bytes each."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ids, self._times, self._kinds = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8)
        self._new: list[tuple[Ints, Ints, Kinds]] = []

    def __len__(self) -> int:
        self._merge()
        return len(self._ids)

    def add(self, ids: Ints, times: Ints, kinds: Kinds) -> None:
        """Labels by hashes of ids: when each became known (ms), and 1 fraud, 0 legitimate, -1 taken back."""
        self._new.append((ids, times, kinds))

    def replace(self, ids: Ints, times: Ints, kinds: Kinds) -> None:
        """These are all there are."""
        self._ids, self._times, self._kinds = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8)
        self._new = [(ids, times, kinds)]

    def forget(self, before_ms: int) -> None:
        """Let go of what was known before: no payment since then can have it."""
        self._merge()
        self._keep(self._times >= before_ms)

    def before(self, until_ms: int | None) -> Labels:
        """Of each payment the newest that was known before `until_ms` (None: now).

        Of two that became known at the same time, the one that was added last.
        """
        self._merge()
        if until_ms is None:
            return Labels(self._ids, self._kinds)
        early = self._times < until_ms
        return Labels(self._ids[early], self._kinds[early])

    def _merge(self) -> None:
        """Put what is new in its place: by id, then time, then as it came."""
        if not self._new:
            return
        self._new.insert(0, (self._ids, self._times, self._kinds))
        ids, times, kinds = (np.concatenate(parts) for parts in zip(*self._new, strict=True))
        self._new = []
        order = np.lexsort((times, ids))  # stable
        self._ids, self._times, self._kinds = ids[order], times[order], kinds[order]
        if (over := len(order) - self._capacity) > 0:
            keep = np.ones(len(order), np.bool_)
            keep[np.argsort(self._times, kind="stable")[:over]] = False
            self._keep(keep)

    def _keep(self, which: npt.NDArray[np.bool_]) -> None:
        self._ids, self._times, self._kinds = self._ids[which], self._times[which], self._kinds[which]
