"""Rows -> the records that a stage hands on: one flat JSON object a row, its fields, features, route and digest.

    {"payment_id": "p1", "amount": 12.5, "ip": null, "spend_count_5m": 7, "_route": "t17", "_digest": -81}

Values are written as a decision's are: decimals as exact numbers, times as epoch milliseconds, NULL as null. A row that
repeats an earlier one has no features.
"""

from __future__ import annotations

__all__ = ["HandedOn", "HandoffEncoder"]

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.encode import json_values, row_struct, write_rows
from operators.plan import DIGEST, ROUTE, Handoff

I64 = npt.NDArray[np.int64]
_EMPTY = " "
"""The route of rows whose key is an empty text: a route is never empty."""


class HandedOn(NamedTuple):
    """One entry a row: what names its partition, and its record."""

    routes: list[str]
    texts: list[bytes]


class HandoffEncoder:
    """Writes the records of one handoff; `digests`: whether they carry one, for the next stage to know repeats by."""

    def __init__(self, handoff: Handoff, *, digests: bool) -> None:
        self._handoff = handoff
        self._digests = digests
        self._struct = row_struct([*handoff.columns, ROUTE, *([DIGEST] if digests else [])], ())

    def encode(
        self, ids: list[str], fields: Mapping[str, Column], features: Mapping[str, Column], fresh: I64, digests: I64
    ) -> HandedOn:
        """One record a row, in row order.

        Args:
            ids: one a row.
            fields: the stream's columns, of all rows.
            features: columns of the rows that repeat none.
            fresh: the indices of these rows.
            digests: int64 (rows,), of the records as they first came.

        Raises:
            RecordError: a column holds text that is not Unicode.
        """

        def values(name: str) -> list[Any]:
            if name in fields:
                return json_values(fields[name])
            return _spread(json_values(features[name]), fresh, len(ids))

        keys = values(self._handoff.key)
        routes = [ids[i] if key is None else str(key) or _EMPTY for i, key in enumerate(keys)]
        parts = [*(values(name) for name in self._handoff.columns), routes]
        if self._digests:
            parts.append(digests.tolist())
        return HandedOn(routes, write_rows(self._struct, parts))


def _spread(values: list[Any], places: I64, size: int) -> list[Any]:
    """`values` at `places` of `size` rows, NULL elsewhere."""
    if len(values) == size:
        return values
    out = np.full(size, None, np.object_)
    out[places] = values
    listed: list[Any] = out.tolist()
    return listed
