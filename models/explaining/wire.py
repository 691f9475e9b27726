"""Protobuf's wire format, as far as an ONNX file needs it: fields of a message, and packed or repeated numbers.

Everything is bounded by the bytes given; nothing is believed about a length before it is compared with them.
See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

__all__ = ["Fields", "fields", "floats", "integers", "text"]

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from state.errors import ConfigError

Fields = Mapping[int, Sequence[bytes | int]]
"""By field number, in the order they came; a varint is an int, all else bytes."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES, _SIGN, _RANGE = 10, 1 << 63, 1 << 64


def fields(data: bytes) -> Fields:
    """The fields of a message.

    Raises:
        ConfigError: these bytes are no message.
    """
    found: dict[int, list[bytes | int]] = {}
    at, size = 0, len(data)
    while at < size:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            found.setdefault(number, []).append(value)
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise _broken()
        if length > size - at:
            raise _broken()
        found.setdefault(number, []).append(data[at : at + length])
        at += length
    return found


def integers(values: Sequence[bytes | int]) -> list[int]:
    """Repeated int64s, packed or not."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return [number - _RANGE if number >= _SIGN else number for number in found]


def floats(values: Sequence[bytes | int]) -> npt.NDArray[np.float32]:
    """Repeated float32s, packed or not."""
    joined = b"".join(value for value in values if isinstance(value, bytes))
    if len(joined) % 4 or any(isinstance(value, int) for value in values):
        raise _broken()
    return np.frombuffer(joined, "<f4")


def text(values: Sequence[bytes | int], otherwise: str = "") -> str:
    """The last of some strings."""
    if not values:
        return otherwise
    if not isinstance(values[-1], bytes):
        raise _broken()
    return values[-1].decode("utf-8", "replace")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends); at most ten bytes."""
    value = 0
    for place in range(_VARINT_BYTES):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & (_RANGE - 1), at
    raise _broken()


def _broken() -> ConfigError:
    return ConfigError("it is no ONNX model: its bytes break off, or have another form")
