"""What undoes one batch in a table."""

from __future__ import annotations

__all__ = ["TableChanges"]

import numpy as np
import numpy.typing as npt


class TableChanges:
    """What undoes one batch: rows and blobs as they were, and the keys it saw first."""

    def __init__(self) -> None:
        self.images: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self.blobs: list[tuple[int, bytes]] = []
        self.created: list[tuple[int, str, int]] = []

    def __bool__(self) -> bool:
        return bool(self.images or self.blobs or self.created)
