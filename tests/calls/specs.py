"""A call step for tests, and what it does on a clock of its own."""

from __future__ import annotations

__all__ = ["RECORD", "record", "spec"]

import json
from typing import Any

import msgspec

from operators.call import CallSpec, HttpRequest
from operators.schema import DataType, FieldSpec, Kind

BASE = CallSpec(
    pipeline="p",
    name="device",
    source="p.device",
    target="p.last",
    asks=HttpRequest(("http://127.0.0.1:9/reputation?device=", "device", "")),
    returns=(
        FieldSpec("reputation", DataType(Kind.FLOAT64), "reputation"),
        FieldSpec("known_bad", DataType(Kind.BOOL), "known_bad"),
    ),
    default=(0.5, None),
)


def spec(port: int = 9, path: str = "/reputation?device=", **changes: Any) -> CallSpec:
    """`BASE` with changes, at a port."""
    http = HttpRequest((f"http://127.0.0.1:{port}{path}", "device", ""))
    return msgspec.structs.replace(BASE, **({"asks": http} | changes))


def record(device: Any, **more: Any) -> bytes:
    """A record that a stage has handed on."""
    return json.dumps({"id": "t1", "device": device, **more, "_route": "r"}).encode()


RECORD = record("d1")
