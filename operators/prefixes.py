"""Keys that stand for many values: networks (`cidr`) and beginnings of texts (`prefix`). The longest that fits wins.

Such keys are nested or apart, never half over one another. So their ends cut the line of all values into segments, and
in each the innermost key is known beforehand: a look-up is one binary search. `Ranges.parents` leads from a key to the
next shorter one that holds it.
"""

from __future__ import annotations

__all__ = ["NONE", "PREFIX_BYTES_MAX", "Networks", "Prefixes", "Ranges", "parse_network", "parse_prefix"]

import re
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.intp]

NONE: Final = -1
"""The number of no key."""
PREFIX_BYTES_MAX: Final = 64
_V4, _V6 = 4, 16
_MAPPED = b"\0" * 10 + b"\xff\xff"
_NETWORK = re.compile(r"([0-9A-Fa-f.:]{2,45})(?:/(0|[1-9][0-9]{0,2}))?")


class Network(NamedTuple):
    """A network: `size` is 4 or 16, the bytes of an address; `first` its first address, `bits` of which are fixed."""

    size: int
    first: int
    bits: int


def parse_network(text: str) -> Network | None:
    """The network that `text` names, or None: `10.0.0.0/8`, `2001:db8::/32`, or one address.

    None too if bits behind the prefix are set (`10.0.0.1/8`). IPv4 written as IPv6 (`::ffff:10.0.0.0/104`) is IPv4.

    >>> parse_network("10.0.0.0/8")
    Network(size=4, first=167772160, bits=8)
    """
    found = _NETWORK.fullmatch(text)
    packed = _packed(found[1]) if found else b""
    if not found or not packed:
        return None
    written = _V6 if ":" in found[1] else _V4
    bits = written * 8 if found[2] is None else int(found[2])
    bits -= (written - len(packed)) * 8
    host = len(packed) * 8 - bits
    first = int.from_bytes(packed, "big")
    if bits < 0 or host < 0 or first & ((1 << host) - 1):
        return None
    return Network(len(packed), first, bits)


def parse_prefix(text: str) -> bytes | None:
    """The prefix as UTF-8, which is ordered as its characters are; None if it is empty, too long or has a NUL."""
    encoded = text.encode("utf-8", "surrogatepass")
    return encoded if 0 < len(encoded) <= PREFIX_BYTES_MAX and b"\0" not in encoded else None


def _packed(text: str) -> bytes:
    """4 or 16 bytes of an address; none if it is no address."""
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return b""
    return packed[12:] if packed.startswith(_MAPPED) else packed


class Ranges:
    """Nested ranges [start, stop) of values in order; a `stop` of None has no end.

    Args:
        spans: (start, stop, number of the key), ordered by start, of equal starts the widest first.
        parents: the number of the next wider key, by number; filled for the keys given.
        dtype: what the values are compared as.
    """

    def __init__(self, spans: Iterable[tuple[Any, Any, int]], parents: Numbers, dtype: npt.DTypeLike) -> None:
        starts: list[Any] = []
        inner: list[int] = [NONE]
        within: list[tuple[Any, int]] = []

        def leave() -> None:
            stop, _ = within.pop()
            if stop is not None:
                starts.append(stop)
                inner.append(within[-1][1] if within else NONE)

        for start, stop, number in spans:
            while within and within[-1][0] is not None and within[-1][0] <= start:
                leave()
            parents[number] = within[-1][1] if within else NONE
            starts.append(start)
            inner.append(number)
            within.append((stop, number))
        while within:
            leave()
        self._starts = np.array(starts, dtype)
        self._inner = np.array(inner, np.intp)

    def find(self, values: npt.NDArray[Any]) -> Numbers:
        """The number of the narrowest key that holds each value; NONE if there is none."""
        return self._inner[self._starts.searchsorted(values, side="right")]


class Networks:
    """Networks by number, as `parse_network` gives them, each once; IPv4 and IPv6 apart.

    Values are texts; one that is no address is in no network.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.parents = np.full(len(networks), NONE, np.intp)
        order = sorted(range(len(networks)), key=lambda number: networks[number])
        small = [number for number in order if networks[number].size == _V4]
        self._v4 = Ranges([_span(networks[n], n) for n in small], self.parents, np.int64)
        large = [_span(networks[n], n) for n in order[len(small) :]]
        spans = [(_bytes(start), None if stop >> 128 else _bytes(stop), number) for start, stop, number in large]
        self._v6 = Ranges(spans, self.parents, f"S{_V6}")

    def find(self, values: npt.NDArray[Any]) -> Numbers:
        """The number of the smallest network around each address."""
        packed = [_packed(text) if text else b"" for text in values.tolist()]  # many are NULL
        joined = b"".join(packed)
        if not joined:
            return np.full(len(packed), NONE, np.intp)
        if len(joined) == _V4 * len(packed) and max(map(len, packed), default=0) == _V4:
            return self._v4.find(np.frombuffer(joined, ">u4").astype(np.int64))
        sizes = np.fromiter(map(len, packed), np.int64, len(packed))
        found = np.full(len(packed), NONE, np.intp)
        for size, dtype, ranges in ((_V4, ">u4", self._v4), (_V6, f"S{_V6}", self._v6)):
            of_size = sizes == size
            if np.count_nonzero(of_size):
                joined = b"".join([one for one in packed if len(one) == size])
                addresses = np.frombuffer(joined, dtype)
                found[of_size] = ranges.find(addresses.astype(np.int64) if size == _V4 else addresses)
        return found


def _span(network: Network, number: int) -> tuple[int, int, int]:
    return network.first, network.first + (1 << (network.size * 8 - network.bits)), number


def _bytes(address: int) -> bytes:
    return address.to_bytes(_V6, "big")


class Prefixes:
    """Prefixes by number, as `parse_prefix` gives them, each once. Values are texts."""

    def __init__(self, prefixes: Sequence[bytes]) -> None:
        self.parents = np.full(len(prefixes), NONE, np.intp)
        self._dtype = f"S{max(map(len, prefixes), default=1)}"
        order = sorted(range(len(prefixes)), key=lambda number: prefixes[number])
        spans = [(prefixes[n], _after(prefixes[n]), n) for n in order]
        self._ranges = Ranges(spans, self.parents, self._dtype)

    def find(self, values: npt.NDArray[Any]) -> Numbers:
        """The number of the longest prefix of each text; what lies behind it makes no difference."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in values.tolist()]
        return self._ranges.find(np.array(encoded, self._dtype))


def _after(prefix: bytes) -> bytes:
    """The first text behind all that begin with `prefix`; UTF-8 has no byte 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
