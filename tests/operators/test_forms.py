"""The decoder of forms: any form at all, also one with a mistake in it."""

from __future__ import annotations

import pytest

from operators.decode import RecordDecoder
from operators.forms import FormDecoder, open_decoder
from state.errors import ConfigError
from tests.operators.samples import NOW, PAN_KEY, stream

GOOD = b'{"s_id":"a","s_card":"c","s_at":1}'


class Stumbling:
    """Hands JSON on, but for a record that it stumbles over."""

    def __init__(self, *, skips: bool = False) -> None:
        self.skips_tombstones = skips

    def plain(self, value: bytes) -> bytes:
        if value == b"4111222233334444":
            raise KeyError(value)
        return value


def test_a_mistake_in_a_form_costs_one_record() -> None:
    decoder = FormDecoder(stream({}), Stumbling(), PAN_KEY)
    found = decoder.decode([GOOD, b"4111222233334444", GOOD], [NOW] * 3)
    assert [(reject.index, reject.reason, reject.detail) for reject in found.rejects] == [(1, "unreadable", "KeyError")]
    assert found.rows.tolist() == [0, 2]
    assert decoder.again([GOOD, b"4111222233334444"]) is None
    assert decoder.times([GOOD, b"4111222233334444"]) is None


def test_tombstones_are_skipped_only_where_the_form_says_so() -> None:
    kept = FormDecoder(stream({}), Stumbling(), PAN_KEY).decode([None, GOOD], [NOW] * 2)
    assert [(reject.index, reject.reason) for reject in kept.rejects] == [(0, "tombstone")]
    skipped = FormDecoder(stream({}), Stumbling(skips=True), PAN_KEY).decode([None, GOOD], [NOW] * 2)
    assert (skipped.rejects, skipped.rows.tolist()) == ([], [1])


def test_plain_json_keeps_its_own_decoder() -> None:
    assert type(open_decoder(stream({}), PAN_KEY)) is RecordDecoder
    with pytest.raises(ConfigError, match="no format 'xml'"):
        open_decoder(stream({}, format="xml"), PAN_KEY)
