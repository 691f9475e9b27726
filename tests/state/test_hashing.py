"""Hashes: Kafka's published vectors, and the vectorised partitioner against the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from state.hashing import (
    digest128,
    digests128,
    murmur2,
    partition_of,
    partitions_of,
    payload_digest,
    stable_hash64,
    stable_hashes64,
)

# apache/kafka clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2
KAFKA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", KAFKA)
def test_murmur2_equals_kafkas(key: bytes) -> None:
    assert murmur2(key) == KAFKA[key]
    assert partition_of(key, 12) == (KAFKA[key] & 0x7FFFFFFF) % 12


_KEYS = st.binary(max_size=40)


@given(st.lists(_KEYS) | st.lists(_KEYS, min_size=33), st.integers(1, 1000))
@example([b"a" * 300, *[b"%d" % i for i in range(40)]], 12)
def test_many_partitions_at_once(keys: list[bytes], partitions: int) -> None:
    assert partitions_of(keys, partitions).tolist() == [partition_of(key, partitions) for key in keys]


def test_hashes_are_stable_over_releases() -> None:
    assert stable_hash64("card-1") == 0xD7598324F6B46871
    assert digest128("tx-1").hex() == "374625fe63ecebb1bcf903df2eb0120f"
    assert payload_digest(b"payload") == 3674482030930660731


@given(st.lists(st.text(max_size=12)))
def test_many_stable_hashes_at_once(texts: list[str]) -> None:
    assert stable_hashes64(texts).view(np.uint64).tolist() == [stable_hash64(text) for text in texts]


def test_lone_surrogates_hash_too() -> None:
    assert stable_hashes64(["\ud800", "a"]).view(np.uint64).tolist() == [stable_hash64("\ud800"), stable_hash64("a")]
    words = digests128(["a", "\ud800"])
    assert words.tobytes() == digest128("a") + digest128("\ud800")
