"""How the memory that a worker's state may take is shared out and counted: `run --state-memory`."""

from __future__ import annotations

__all__ = ["Shares", "bytes_of_text", "shares"]

import sys
from typing import NamedTuple

from state.errors import ConfigError

_MB = 1 << 20
_LEAST_MB = 8
_CACHE_MIN, _CACHE_MAX = 4 * _MB, 256 * _MB  # with less, RocksDB reads its own indexes again and again
_BUFFERS_MAX = 24 * _MB
_TEXT = sys.getsizeof("")


class Shares(NamedTuple):
    """Bytes for the keys in memory (0: all of them), for RocksDB's block cache, and of that for its write buffers."""

    keys: int
    cache: int
    write_buffers: int


def shares(budget_mb: int, stages: int = 1) -> Shares:
    """Of each of so many stages: a quarter of its budget (MiB), 4 to 256 MiB, is RocksDB's cache; the rest is the
    keys'. 0: no budget.

    A quarter of the cache, 24 MiB at most, is write buffers: RocksDB charges them to its cache, so they are within it.

    Raises:
        ConfigError: a budget that is too small.
    """
    if budget_mb == 0:
        return Shares(0, _CACHE_MAX, _BUFFERS_MAX)
    if budget_mb < (least := _LEAST_MB * stages):
        of = f" of {stages} stages" if stages > 1 else ""
        raise ConfigError(
            f"a state memory of {budget_mb} MiB is too little for RocksDB alone{of}",
            hint=f"--state-memory: {least} or more, or 0 to keep all keys in memory",
        )
    budget = budget_mb * _MB // stages
    cache = min(max(budget // 4, _CACHE_MIN), _CACHE_MAX)
    return Shares(budget - cache, cache, min(cache // 4, _BUFFERS_MAX))


def bytes_of_text(text: str) -> int:
    """Memory of a text; about, if it is not ASCII.

    Not `sys.getsizeof`: that grows when the text is written out, for Python then keeps its UTF-8 form, too.
    """
    return _TEXT + (len(text) if text.isascii() else 25 + 5 * len(text))
