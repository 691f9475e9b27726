"""Rows that have equal keys: each gets the number of its group."""

from __future__ import annotations

__all__ = ["group_codes", "joint_codes", "ranks", "value_codes"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import Kind

Ints = npt.NDArray[np.int64]


def value_codes(values: npt.NDArray[Any]) -> Ints:
    """The same number for equal values, in no order."""
    if values.dtype == np.object_:
        known: dict[Any, int] = {}
        return np.fromiter((known.setdefault(one, len(known)) for one in values.tolist()), np.int64, len(values))
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def ranks(column: Column) -> tuple[Ints, npt.NDArray[Any]]:
    """The place of each value in the order of all, and the values in that order; texts by code point."""
    if column.type.kind is Kind.STRING:
        ordered = sorted(set(column.values.tolist()))
        place = {value: n for n, value in enumerate(ordered)}
        codes = np.fromiter((place[one] for one in column.values.tolist()), np.int64, len(column.values))
        return codes, np.array(ordered, np.object_)
    values, codes = np.unique(column.values, return_inverse=True)
    return codes.astype(np.int64), values


def group_codes(columns: Sequence[Column], size: int) -> tuple[Ints, Ints]:
    """Groups are numbered as they first appear; NULLs are one value. Also each group's first row."""
    codes = joint_codes(columns, size)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return number[inverse], first[order].astype(np.int64)


def joint_codes(columns: Sequence[Column], size: int) -> Ints:
    """One number for each combination of values."""
    codes = np.zeros(size, np.int64)
    for column in columns:
        one = value_codes(column.values) + 1
        if column.valid is not None:
            one = np.where(column.valid, one, 0)
        codes = codes * (int(one.max(initial=0)) + 1) + one
        codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)  # dense again: no product overflows
    return codes
