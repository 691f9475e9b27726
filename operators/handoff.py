"""Rows -> the records that a stage hands on: one flat JSON object a row, its fields, features, digest and route.

    {"payment_id": "p1", "amount": 12.5, "ip": null, "spend_count_5m": 7, "_digest": -81, "_route": "t17"}

With a deadline `_arrived` stands before the route: when the record first came to the log, ms.

Values are written as a decision's are: decimals as exact numbers, times as epoch milliseconds, NULL as null. A row that
repeats an earlier one has no features. A later stage does not write again what it was handed: its features and the new
route take the place of the old route, which stands last.
"""

from __future__ import annotations

__all__ = ["HandedOn", "HandoffEncoder", "joined"]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.encode import json_values, row_struct, write_rows
from operators.plan import ARRIVED, DIGEST, ROUTE, Handoff
from state.errors import RecordError

I64 = npt.NDArray[np.int64]
_EMPTY = " "
"""The route of rows whose key is an empty text: a route is never empty."""

_LAST = b',"%b":' % ROUTE.encode()


class HandedOn(NamedTuple):
    """One entry a row: what names its partition, and its record."""

    routes: list[str]
    texts: list[bytes]


class HandoffEncoder:
    """Writes the records of one handoff.

    Args:
        handoff: what is written.
        digests: whether records carry one, for the next stage to know repeats by.
        passes: the rows were handed on by another stage: what it wrote is passed on.
    """

    def __init__(self, handoff: Handoff, *, digests: bool, passes: bool) -> None:
        self._handoff, self._passes = handoff, passes
        self._digests = digests and not passes
        self._arrived = handoff.arrived and not passes
        own = [*([DIGEST] if self._digests else []), *([ARRIVED] if self._arrived else []), ROUTE]
        self._struct = row_struct([*handoff.columns, *own], ())

    def encode(
        self, ids: list[str], fields: Mapping[str, Column], features: Mapping[str, Column], *, fresh: I64, digests: I64,
        values: Sequence[bytes | None], arrived: I64,
    ) -> HandedOn:  # fmt: skip
        """One record a row, in row order.

        Args:
            ids: one a row.
            fields: the stream's columns, of all rows.
            features: columns of the rows that repeat none.
            fresh: the indices of these rows.
            digests: int64 (rows,), of the records as they first came.
            values: the rows' records.
            arrived: int64 (rows,), their log times, ms.

        Raises:
            RecordError: a column holds text that is not Unicode; or no stage wrote a record that was handed on.
        """

        def of(name: str) -> list[Any]:
            if name in fields:
                return json_values(fields[name])
            return _spread(json_values(features[name]), fresh, len(ids))

        keys = of(self._handoff.key)
        routes = [ids[i] if key is None else str(key) or _EMPTY for i, key in enumerate(keys)]
        own = [*([digests.tolist()] if self._digests else []), *([arrived.tolist()] if self._arrived else []), routes]
        parts = [*(of(name) for name in self._handoff.columns), *own]
        texts = write_rows(self._struct, parts)
        return HandedOn(routes, _passed_on(values, texts) if self._passes else texts)


def joined(record: bytes, members: bytes) -> bytes:
    """A record that a stage has handed on, with the members behind its own and before its route; without members, as
    it is. One that no stage wrote gets them last.

    >>> joined(b'{"id":"p1","_route":"t17"}', b'"reputation":0.5')
    b'{"id":"p1","reputation":0.5,"_route":"t17"}'
    """
    if not members:
        return record
    head, last, route = record.rpartition(_LAST)
    return b"%b,%b%b%b" % (head, members, last, route) if last else b"%b,%b}" % (record[:-1], members)


def _passed_on(values: Sequence[bytes | None], added: list[bytes]) -> list[bytes]:
    """Records without their route, which stands last, and with the fields of `added`."""
    heads = [(value or b"").rpartition(_LAST)[0] for value in values]
    if not all(heads):
        bad = tuple(i for i, head in enumerate(heads) if not head)
        raise RecordError("not_handed_on", "no stage of this pipeline wrote the record", bad)
    return [b"%b,%b" % (head, text[1:]) for head, text in zip(heads, added, strict=True)]


def _spread(values: list[Any], places: I64, size: int) -> list[Any]:
    """`values` at `places` of `size` rows, NULL elsewhere."""
    if len(values) == size:
        return values
    out = np.full(size, None, np.object_)
    out[places] = values
    listed: list[Any] = out.tolist()
    return listed
