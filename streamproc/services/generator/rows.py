"""Payments by column, as indices into the world."""

from __future__ import annotations

__all__ = ["LEGITIMATE", "NONE", "Rows", "concatenate"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NONE = -1
LEGITIMATE = -1


class Rows(NamedTuple):
    """One value a payment in each array.

    `device`, `address`: NONE where there is none. `cents`: amount. `city`: where it happened. `time`: ms.
    `kind`: index into FRAUD_KINDS, or LEGITIMATE; `attack`: number of the attack it belongs to, or NONE.
    """

    card: Ints
    merchant: Ints
    terminal: Ints
    device: Ints
    address: Ints
    cents: Ints
    city: Ints
    lat: npt.NDArray[np.float64]
    lon: npt.NDArray[np.float64]
    channel: Ints
    time: Ints
    kind: Ints
    attack: Ints

    def pick(self, places: npt.NDArray[Any]) -> Rows:
        """The rows at `places` (indices or a mask)."""
        return Rows(*(column[places] for column in self))


def concatenate(parts: Sequence[Rows]) -> Rows:
    """All rows of all parts, in order."""
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
