"""Rows -> the records that a stage hands on: one flat JSON object a row, its fields, features, digest and route.

    {"payment_id": "p1", "amount": 12.5, "ip": null, "spend_count_5m": 7, "_digest": -81, "_route": "t17"}

With a deadline `_arrived` stands before the route: when the record first came to the log, ms.

Values are written as a decision's are: decimals as exact numbers, times as epoch milliseconds, NULL as null. A row that
repeats an earlier one has no features. A later stage does not write again what it was handed: its features and the new
route take the place of the old route, which stands last.

Through stages beside each other a row goes in parts, and `_place`, behind what stages and calls add, names it: the part
of the first branch is the row with what that adds, those of the others only what they add. What names the part stands
behind that.

    {"payment_id": "p1", ..., "merchant_n": 3, "_place": "2-1045", "_part": 0, "_route": "u17"}
    {"device_n": 7, "_place": "2-1045", "_part": 1, "payment_id": "p1", "at": 1760000000000, "_route": "u17"}
"""

from __future__ import annotations

__all__ = [
    "HandedOn",
    "HandoffEncoder",
    "RowPart",
    "is_routed",
    "joined",
    "read_part",
    "rerouted",
    "route_of",
    "united",
]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.encode import json_columns, json_encoder, json_values, row_struct, write_rows
from operators.plan import ARRIVED, DIGEST, PART, PLACE, REFUSED, ROUTE, Handoff
from state.errors import RecordError

I64 = npt.NDArray[np.int64]
_EMPTY = " "
"""The route of rows whose key is an empty text: a route is never empty."""

_LAST = b',"%b":' % ROUTE.encode()
_PLACED = b'"%b":' % PLACE.encode()


class HandedOn(NamedTuple):
    """One entry a row: what names its partition, and its record. `topic`: where they go."""

    routes: list[str]
    texts: list[bytes]
    topic: str = ""


class HandoffEncoder:
    """Writes the records of one handoff.

    Args:
        handoff: what is written.
        digests: whether records carry one, for the next stage to know repeats by.
        passes: the rows were handed on by another stage: what it wrote is passed on.
        named, event_time: the fields that say which row it is, and when it happened.
    """

    def __init__(self, handoff: Handoff, *, digests: bool, passes: bool, named: str = "", event_time: str = "") -> None:
        part = handoff.part
        self._handoff, self._passes = handoff, passes and not part
        self._digests = digests and not passes
        self._arrived = handoff.arrived and not passes
        self._named = [named, event_time] if part else []
        self._until = _LAST if handoff.branch is None else b"," + _PLACED
        own = [*([DIGEST] if self._digests else []), *([ARRIVED] if self._arrived else [])]
        own += [PLACE] if handoff.placed else []
        own += [PART] if part is not None else []
        self._struct = row_struct([*handoff.columns, *own, *self._named, ROUTE], ())
        carried = [PLACE] if handoff.placed and handoff.branch is not None else []
        self._written = tuple(dict.fromkeys([handoff.key, *handoff.columns, *carried, *self._named]))
        self._id, self._time = named, event_time

    def encode(
        self, ids: list[str], fields: Mapping[str, Column], features: Mapping[str, Column], *, fresh: I64, digests: I64,
        values: Sequence[bytes | None], arrived: I64, places: Sequence[str] = (),
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
            places: where the rows stand; read if they go several ways from here.

        Raises:
            RecordError: a column holds text that is not Unicode; or no stage wrote a record that was handed on.
        """
        of = self._values(fields, features, fresh, len(ids))
        routes = _routes(of[self._handoff.key], ids)
        own = [*([digests.tolist()] if self._digests else []), *([arrived.tolist()] if self._arrived else [])]
        if self._handoff.placed:
            own.append(places if self._handoff.branch is None else of[PLACE])
        if self._handoff.part is not None:
            own.append([self._handoff.part] * len(ids))
        parts = [*map(of.__getitem__, self._handoff.columns), *own, *map(of.__getitem__, self._named), routes]
        texts = write_rows(self._struct, parts)
        return HandedOn(routes, self._passed_on(values, texts) if self._passes else texts, self._handoff.topic)

    def _values(
        self, fields: Mapping[str, Column], features: Mapping[str, Column], fresh: I64, size: int
    ) -> dict[str, list[Any]]:
        """What JSON holds of the columns that are written, by name."""
        passed = [name for name in self._written if name in fields]
        found = dict(zip(passed, json_columns([fields[name] for name in passed]), strict=True))
        if len(found) < len(self._written):
            made = [name for name in self._written if name not in found]
            values = json_columns([features[name] for name in made])
            if len(fresh) < size:
                values = [_spread(one, fresh, size) for one in values]
            found |= zip(made, values, strict=True)
        return found

    def beside(
        self, handed: HandedOn, ids: list[str], fields: Mapping[str, Column], features: Mapping[str, Column], fresh: I64
    ) -> list[HandedOn]:
        """What the other stages get of the rows that are `handed` on: the same but for the route."""
        found = []
        heads = [text.rpartition(_LAST)[0] for text in handed.texts] if self._handoff.beside else []
        for target in self._handoff.beside:
            column = fields.get(target.key)
            keys = (
                json_values(column)
                if column is not None
                else _spread(json_values(features[target.key]), fresh, len(ids))
            )
            routes = _routes(keys, ids)
            texts = [
                b"%b%b%b}" % (head, _LAST, json_encoder.encode(route))
                for head, route in zip(heads, routes, strict=True)
            ]
            found.append(HandedOn(routes, texts, target.topic))
        return found

    def refused(self, value: bytes | None) -> tuple[str, bytes] | None:
        """The route, and the record, by which nobody waits any more for its branch's part of a row that was refused
        here; None: nobody does, or no stage wrote it.
        """
        branch = self._handoff.branch
        if branch is None:
            return None
        try:
            row = _any_row.decode(value or b"")
            place, named, time = row[PLACE], row[self._id], row[self._time]
            key = row.get(branch.key)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
            return None
        (route,) = _routes([key], [str(named)])
        said = {PLACE: place, PART: branch.number, REFUSED: True, self._id: named, self._time: time, ROUTE: route}
        return route, json_encoder.encode(said)

    def _passed_on(self, values: Sequence[bytes | None], added: list[bytes]) -> list[bytes]:
        """Records without what stands last (their route; their place before it), and with the fields of `added`."""
        records = [value or b"" for value in values]
        ends = [record.rfind(self._until) for record in records]
        if min(ends, default=1) < 1:
            bad = tuple(i for i, end in enumerate(ends) if end < 1)
            raise RecordError("not_handed_on", "no stage of this pipeline wrote the record", bad)
        return [record[: end + 1] + text[1:] for record, end, text in zip(records, ends, added, strict=True)]


class RowPart(NamedTuple):
    """A part of a row. `place` names the row; `refused`: the stage will not have it."""

    place: str
    number: int
    refused: bool


class _Tail(msgspec.Struct):
    place: str = msgspec.field(name=PLACE)
    number: int = msgspec.field(name=PART)
    refused: bool = msgspec.field(name=REFUSED, default=False)


_tail = msgspec.json.Decoder(_Tail)
_any_row = msgspec.json.Decoder(dict[str, Any])


def read_part(record: bytes | None) -> RowPart | None:
    """Which part of which row a record is; None: no stage wrote it.

    >>> read_part(b'{"spend":2,"_place":"3-17","_part":1,"id":"p1","at":5,"_route":"u1"}')
    RowPart(place='3-17', number=1, refused=False)
    """
    try:
        found = _tail.decode(record or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return RowPart(found.place, found.number, found.refused)


def united(parts: Sequence[bytes]) -> bytes:
    """A row of its parts: the first with what the others add, as one stage would have handed it on.

    >>> united([b'{"id":"p1","x":1,"_place":"3-17","_part":0,"_route":"u1"}', b'{"y":2,"_place":"3-17","_part":1,...'])
    b'{"id":"p1","x":1,"y":2,"_route":"u1"}'
    """
    first, *others = parts
    members = [part.rpartition(_PLACED)[0][1:].removesuffix(b",") for part in others]
    head, _, tail = first.rpartition(b"," + _PLACED)
    return b",".join([head, *filter(None, members)]) + b"".join(tail.rpartition(_LAST)[1:])


def joined(record: bytes, members: bytes) -> bytes:
    """A record that a stage has handed on, with the members behind its own and before what names its row and its route;
    without members, as it is. One that no stage wrote gets them last.

    >>> joined(b'{"id":"p1","_route":"t17"}', b'"reputation":0.5')
    b'{"id":"p1","reputation":0.5,"_route":"t17"}'
    """
    if not members:
        return record
    head, name, tail = record.rpartition(b"," + _PLACED)
    if not name:
        head, name, tail = record.rpartition(_LAST)
    return b"%b,%b%b%b" % (head, members, name, tail) if name else b"%b,%b}" % (record[:-1], members)


def is_routed(record: bytes, route: Any) -> bool:
    """Whether a stage may have handed a record on: its `route` is a text, and stands where `rerouted` looks for it.

    >>> is_routed(b'{"id":"p1","_route":"t17"}', "t17"), is_routed(b'{"_route":"t17","id":"p1"}', "t17")
    (True, False)
    """
    return isinstance(route, str) and record.endswith(b"%b%b}" % (_LAST, json_encoder.encode(route)))


def rerouted(record: bytes, route: bytes) -> bytes:
    """A record that a stage has handed on, with another `route` (JSON).

    >>> rerouted(b'{"id":"p1","_place":"3-17","_route":"t17"}', b'"u1"')
    b'{"id":"p1","_place":"3-17","_route":"u1"}'
    """
    return b"%b%b%b}" % (record.rpartition(_LAST)[0], _LAST, route)


def route_of(key: Any, named: str) -> str:
    """What names the partition of a row: the text of its key, or what it is `named` by where that is NULL.

    >>> route_of(17, "p1"), route_of(None, "p1"), route_of("", "p1")
    ('17', 'p1', ' ')
    """
    return named if key is None else str(key) or _EMPTY


def _routes(keys: Sequence[Any], ids: Sequence[str]) -> list[str]:
    return [key if key and type(key) is str else route_of(key, named) for key, named in zip(keys, ids, strict=True)]


def _spread(values: list[Any], places: I64, size: int) -> list[Any]:
    """`values` at `places` of `size` rows, NULL elsewhere."""
    if len(values) == size:
        return values
    out = np.full(size, None, np.object_)
    out[places] = values
    listed: list[Any] = out.tolist()
    return listed
