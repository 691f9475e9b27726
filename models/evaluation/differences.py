"""What two pipelines decide differently on the same payments, both ways."""

from __future__ import annotations

__all__ = ["Differences", "Moved", "differences", "joined_actions"]

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation.decisions import Decisions


class Moved(msgspec.Struct, frozen=True):
    """Payments that one action got before and another one after. None: of no payment at all a label is known."""

    before: str
    after: str
    payments: int
    frauds: int | None
    legitimate: int | None
    value: float
    fraud_value: float | None


class Differences(msgspec.Struct, frozen=True):
    """`stricter`, `milder`: (payments, 2) places of payments in the decisions before and after; by amount, the highest
    first, then in the order of the input. `same`: decided alike. `only_before`, `only_after`: payments that the other
    one could not decide, or did not read.
    """

    moves: tuple[Moved, ...]
    stricter: npt.NDArray[np.int64]
    milder: npt.NDArray[np.int64]
    same: int
    only_before: int
    only_after: int


def joined_actions(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """All actions, most severe first; what only `after` has stands behind what it follows there.

    >>> joined_actions(["decline", "review", "approve"], ["decline", "challenge", "approve"])
    ['decline', 'challenge', 'review', 'approve']
    """
    found = list(before)
    for place, action in enumerate(after):
        if action not in found:
            found.insert(found.index(after[place - 1]) + 1 if place else 0, action)
    return found


def differences(before: Decisions, after: Decisions) -> Differences:
    """By `Decisions.rows`; labels and amounts are those of `before`."""
    _, one, other = np.intersect1d(before.rows, after.rows, assume_unique=True, return_indices=True)
    names = joined_actions(before.actions, after.actions)
    was = np.array([names.index(name) for name in before.actions], np.int64)[before.action[one]]
    becomes = np.array([names.index(name) for name in after.actions], np.int64)[after.action[other]]
    known = bool((before.labels >= 0).any())
    moves = []
    for pair in np.unique((was * len(names) + becomes)[was != becomes]).tolist():
        old, new = divmod(pair, len(names))
        rows = one[(was == old) & (becomes == new)]
        labels, amounts = before.labels[rows], np.nan_to_num(before.amounts[rows])
        moves.append(
            Moved(
                names[old], names[new], len(rows), int((labels == 1).sum()) if known else None,
                int((labels == 0).sum()) if known else None, float(amounts.sum()),
                float(amounts[labels == 1].sum()) if known else None,
            )
        )  # fmt: skip
    pairs = np.stack([one, other], axis=1).astype(np.int64)
    dear = np.argsort(-np.nan_to_num(before.amounts[one], nan=-np.inf), kind="stable")
    turned = (becomes - was)[dear]
    return Differences(
        tuple(moves),
        pairs[dear][turned < 0],
        pairs[dear][turned > 0],
        int((was == becomes).sum()),
        len(before.rows) - len(one),
        len(after.rows) - len(one),
    )
