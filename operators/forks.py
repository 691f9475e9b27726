"""Rows that go several ways at once behind a call: the same record each way, but for its route.

A stage that hands its rows on writes them for each way itself (`handoff.py`); with calls in between, the last of these
does, from the records alone.
"""

from __future__ import annotations

__all__ = ["ForkWriter", "Sent"]

from typing import Any, NamedTuple

import msgspec

from operators.call import Fork
from operators.encode import json_encoder
from operators.handoff import is_routed, rerouted, route_of
from operators.plan import ROUTE


class Sent(NamedTuple):
    """What goes one way. `route`: what names its partition; None: the one it is in, for no stage wrote the record."""

    topic: str
    route: bytes | None
    record: bytes | None


class ForkWriter:
    """Writes the records of one fork."""

    def __init__(self, fork: Fork) -> None:
        self._fork = fork
        columns = dict.fromkeys([fork.id, ROUTE, *(column for _, column in fork.ways)])
        self._at = {column: number for number, column in enumerate(columns)}
        named = {f"c{number}": column for column, number in self._at.items()}
        self._row = msgspec.json.Decoder(msgspec.defstruct("Row", [(name, Any) for name in named], rename=named))

    def write(self, record: bytes | None) -> list[Sent]:
        """A record for each way, in their order."""
        try:
            values = msgspec.structs.astuple(self._row.decode(record or b""))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            values = None, None
        if record is None or values[0] is None or not is_routed(record, values[1]):
            return [Sent(topic, None, record) for topic, _ in self._fork.ways]
        routes = [route_of(values[self._at[column]], str(values[0])) for _, column in self._fork.ways]
        return [
            Sent(topic, route.encode(), rerouted(record, json_encoder.encode(route)))
            for (topic, _), route in zip(self._fork.ways, routes, strict=True)
        ]
