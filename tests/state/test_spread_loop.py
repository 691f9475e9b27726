"""The loop's murmur2 is Kafka's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import spread_loop
from state.hashing import murmur2
from tests.state.test_hashing import KAFKA


@pytest.mark.parametrize("key", KAFKA)
def test_golden_values(key: bytes) -> None:
    assert spread_loop.murmur2(np.frombuffer(key, np.uint8)) == KAFKA[key] & 0xFFFFFFFF


@given(st.binary(max_size=40))
def test_it_is_that_of_single_keys(key: bytes) -> None:
    assert spread_loop.murmur2(np.frombuffer(key, np.uint8)) == murmur2(key) & 0xFFFFFFFF
