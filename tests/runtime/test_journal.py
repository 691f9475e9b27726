"""Journal entries, their chain and the metadata that names its end."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.errors import StateCorruptedError
from streamproc.runtime.journal import (
    CHAIN_START,
    JournalEntry,
    JournalHead,
    RangeOfInput,
    decode_entry,
    encode_entry,
)

ENTRY = JournalEntry(
    version=1, task=3, sequence=0, ranges=(RangeOfInput("in", 5, 9),), rejected=((0, 6),), duplicates=((0, 7),),
    actions=b"\x00\x01\x00", state_fingerprint="s", decision_fingerprint="d", numerics="n", exact=b"e" * 32,
    output=b"o" * 32, block=b"b" * 32,
)  # fmt: skip


def test_an_entry_comes_back_with_its_chain() -> None:
    headers, head = encode_entry(ENTRY, CHAIN_START)
    entry, body, chain = decode_entry(headers)
    assert entry == ENTRY
    assert chain == head == hashlib.sha256(CHAIN_START + body).digest()


def test_the_chain_depends_on_every_field() -> None:
    heads = {encode_entry(ENTRY, CHAIN_START)[1]}
    changes = {"task": 4, "sequence": 1, "ranges": (), "rejected": (), "duplicates": (), "actions": b"", "exact": b"x"}
    for name, value in changes.items():
        heads.add(encode_entry(msgspec.structs.replace(ENTRY, **{name: value}), CHAIN_START)[1])
    assert len(heads) == len(changes) + 1


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(StateCorruptedError):
        decode_entry([("journal", garbage), ("chain", b"")])


def test_another_version_is_refused() -> None:
    headers, _ = encode_entry(msgspec.structs.replace(ENTRY, version=2), CHAIN_START)
    with pytest.raises(StateCorruptedError, match="version 2"):
        decode_entry(headers)


@given(st.integers(-1, 2**40), st.binary(min_size=32, max_size=32), st.integers(-1, 2**60))
def test_a_head_comes_back_from_its_text(sequence: int, chain: bytes, previous: int) -> None:
    head = JournalHead(sequence, chain, previous)
    assert JournalHead.parse(head.text()) == head


@given(st.text(max_size=60))
def test_foreign_metadata_is_refused(text: str) -> None:
    with pytest.raises(StateCorruptedError):
        JournalHead.parse(text)
