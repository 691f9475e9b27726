"""Hashes that are the same in every process and release: they may enter state and choose partitions.

`murmur2` and `partition_of` equal Kafka's DefaultPartitioner (org.apache.kafka.common.utils.Utils.murmur2), so
that a key lies where a Java producer would put it. Keyed hashes of card numbers are not made here.
"""

from __future__ import annotations

__all__ = ["digest64", "digest128", "murmur2", "partition_of", "partitions_of", "payload_digest", "stable_hash64"]

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def stable_hash64(text: str) -> int:
    """Unsigned 64-bit hash (XXH3) of the UTF-8 bytes; a lone surrogate counts as its three bytes."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def digest64(data: bytes) -> bytes:
    """8-byte digest (XXH3): for fingerprints, not against adversaries."""
    return xxhash.xxh3_64_digest(data)


def digest128(text: str) -> bytes:
    """16-byte digest (XXH3) of an id's UTF-8 bytes."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def payload_digest(data: bytes) -> int:
    """Signed 64-bit digest (XXH3) of a record's bytes: fits an int64 column."""
    unsigned = xxhash.xxh3_64_intdigest(data)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def murmur2(data: bytes) -> int:
    """Kafka's murmur2, signed 32 bits.

    >>> murmur2(b"foobar")
    -790332482
    """
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if length & 3:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h >> 31 else h


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives `key`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> npt.NDArray[np.int64]:
    """`partition_of` of each key, int64 (keys,); vectorised."""
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    ends = np.cumsum(lengths)
    flat = np.frombuffer(b"".join(keys), np.uint8)
    out = np.empty(len(keys), np.int64)
    for length in set(lengths.tolist()):
        rows = np.flatnonzero(lengths == length)
        whole = -(-length // 4) * 4
        padded = np.zeros((len(rows), max(4, whole)), np.uint8)
        if length:
            if len(rows) == len(keys):
                padded[:, :length] = flat.reshape(len(rows), length)
            else:
                padded[:, :length] = flat[(ends[rows] - length)[:, None] + np.arange(length)]
        out[rows] = _murmur2_columns(padded.view("<u4"), length)
    return (out & 0x7FFFFFFF) % partitions


def _murmur2_columns(words: npt.NDArray[np.uint32], length: int) -> npt.NDArray[np.uint32]:
    """murmur2 of rows of equal `length`, their bytes in zero-padded little-endian words."""
    m = np.uint32(_M)
    h = np.full(len(words), (_SEED ^ length) & _MASK, np.uint32)
    for column in range(length // 4):
        k = words[:, column] * m
        k ^= k >> np.uint32(24)
        k *= m
        h *= m
        h ^= k
    if length & 3:
        h ^= words[:, length // 4]
        h *= m
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return h


assert sys.byteorder == "little", "state and its hashes are laid out little-endian"
