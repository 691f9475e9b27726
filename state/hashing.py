"""Hashes that are the same in every process and release: they may enter state and choose partitions.

`murmur2` and `partition_of` equal Kafka's DefaultPartitioner (org.apache.kafka.common.utils.Utils.murmur2), so
that a key lies where a Java producer would put it. Keyed hashes of card numbers are not made here.
"""

from __future__ import annotations

__all__ = [
    "digest64",
    "digest128",
    "digests128",
    "murmur2",
    "partition_of",
    "partitions_of",
    "payload_digest",
    "stable_hash64",
    "stable_hashes64",
]

import struct
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xxhash

_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_FEW, _LONG = 32, 256  # up to so many keys, and longer ones (bytes), are hashed one by one


def stable_hash64(text: str) -> int:
    """Unsigned 64-bit hash (XXH3) of the UTF-8 bytes; a lone surrogate counts as its three bytes."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def stable_hashes64(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """`stable_hash64` of each text, its bits as int64 (texts,)."""
    try:
        data = b"".join(map(xxhash.xxh3_64_digest, map(str.encode, texts)))
    except UnicodeEncodeError:
        return np.array([stable_hash64(text) for text in texts], np.uint64).view(np.int64)
    return np.frombuffer(data, np.int64).byteswap()  # a digest is big-endian


def digest64(data: bytes) -> bytes:
    """8-byte digest (XXH3): for fingerprints, not against adversaries."""
    return xxhash.xxh3_64_digest(data)


def digest128(text: str) -> bytes:
    """16-byte digest (XXH3) of an id's UTF-8 bytes."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def digests128(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """`digest128` of each text as two words, uint64 (texts, 2)."""
    try:
        data = b"".join(map(xxhash.xxh3_128_digest, map(str.encode, texts)))
    except UnicodeEncodeError:
        data = b"".join(map(digest128, texts))
    return np.frombuffer(data, "<u8").reshape(-1, 2)


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
    for word in _words(length >> 2)(data):
        k = word * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if length & 3:
        h = (h ^ int.from_bytes(data[length & ~3 :], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h >> 31 else h


@lru_cache(_LONG)
def _words(count: int) -> Callable[[bytes], tuple[int, ...]]:
    """Reads so many words from where bytes begin."""
    return struct.Struct(f"<{count}I").unpack_from


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives `key`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> npt.NDArray[np.int64]:
    """`partition_of` of each key, int64 (keys,); vectorised where that is faster."""
    longest = max(map(len, keys), default=0)
    if len(keys) <= _FEW or longest > _LONG:
        return np.array([partition_of(key, partitions) for key in keys], np.int64)
    words = longest // 4 + 1  # one more than any key has whole ones: the rest of a key, padded with zeros
    padded = np.array(keys, f"S{4 * words}").view("<u4").reshape(-1, words)
    hashes = _murmur2_rows(padded, np.fromiter(map(len, keys), np.uint32, len(keys)))
    return (hashes & np.uint32(0x7FFFFFFF)).astype(np.int64) % partitions


def _murmur2_rows(words: npt.NDArray[np.uint32], lengths: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """murmur2 of rows of words, each padded with zeros behind its length (bytes)."""
    m, whole = np.uint32(_M), lengths >> np.uint32(2)
    least = int(whole.min())
    h = np.uint32(_SEED) ^ lengths
    mixed = words[:, :-1].T * m
    mixed ^= mixed >> np.uint32(24)
    mixed *= m
    for number, column in enumerate(mixed):
        if number < least:
            h *= m
            h ^= column
        else:
            h = np.where(whole > number, h * m ^ column, h)
    rest = (lengths & np.uint32(3) > 0).nonzero()[0]
    h[rest] = (h[rest] ^ words[rest, whole[rest]]) * m
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return h


assert sys.byteorder == "little", "state and its hashes are laid out little-endian"
