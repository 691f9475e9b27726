"""Memory that grows without being copied: an array of zeros on pages of its own, which the system moves by name only.

Pages that were never written cost address space, not memory; so growth by doubling is cheap.
"""

from __future__ import annotations

__all__ = ["Pages", "grown"]

import mmap
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Pages(Generic[T]):
    """`array` has `size` elements at least; hold no view of it over a call of `reserve`."""

    def __init__(self, dtype: type[T], size: int) -> None:
        self._dtype = np.dtype(dtype)
        self._map = mmap.mmap(-1, max(1, size) * self._dtype.itemsize, flags=_PRIVATE)
        self.array: npt.NDArray[T] = np.frombuffer(self._map, self._dtype)

    def reserve(self, size: int) -> None:
        """Room for `size` elements, zeros where they are new."""
        if size <= len(self.array):
            return
        length = max(size, 2 * len(self.array)) * self._dtype.itemsize
        old = self.array
        self.array = old[:0].copy()
        del old
        try:
            self._map.resize(length)
        except (BufferError, SystemError):  # somebody looks at it, or the system cannot
            larger = mmap.mmap(-1, length, flags=_PRIVATE)
            larger[: len(self._map)] = self._map[:]
            self._map = larger
        self.array = np.frombuffer(self._map, self._dtype)


def grown(array: npt.NDArray[T], size: int) -> npt.NDArray[T]:
    """A copy with `size` rows, the new ones all 0."""
    out = np.zeros((size, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
