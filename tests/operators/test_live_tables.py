"""Tables out of records of a compacted topic."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.live_tables import IMPLIED, LiveTables, TableRows, TopicTable, key_text, row_json
from operators.schema import DataType, Kind
from operators.tables import Match, TableSchema

STRING, CENTS = DataType(Kind.STRING), DataType(Kind.DECIMAL, 2)


def schema(match: Match = Match.EXACT, key: DataType = STRING) -> TableSchema:
    return TableSchema("limits", "id", {"id": key, "top": CENTS, "hot": DataType(Kind.BOOL), **IMPLIED}, match)


RECORDS = st.lists(st.tuples(st.sampled_from(["a", "b", "ü", "0"]), st.none() | st.integers(-999, 999)), max_size=30)


def applied(records: list[tuple[str, int | None]]) -> TableRows:
    rows = TableRows(schema())
    for key, top in records:
        value = None if top is None else json.dumps({"top": f"{top / 100:.2f}"}).encode()
        assert rows.apply(key.encode(), value) is None
    return rows


@settings(deadline=None)
@given(RECORDS, st.data())
def test_the_last_record_of_a_key_counts_and_compaction_changes_nothing(
    records: list[tuple[str, int | None]], data: st.DataObject
) -> None:
    last = dict(records)
    rows = applied(records)
    kept = {key: [{"id": key, "top": top}] for key, top in last.items() if top is not None}
    assert rows.of == kept
    table = rows.snapshot()
    found = table.lookup(np.array(list(last), np.object_), "top", np.zeros(len(last), np.int64))
    assert [v if there else None for v, there in zip(found.values.tolist(), _valid(found), strict=True)] == [
        last[key] for key in last
    ]
    newest = {key: place for place, (key, _) in enumerate(records)}
    removed = {place for place in range(len(records)) if place not in newest.values() and data.draw(st.booleans())}
    assert applied([one for place, one in enumerate(records) if place not in removed]).of == kept


def _valid(column: Any) -> list[bool]:
    return [True] * len(column.values) if column.valid is None else list(column.valid.tolist())


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_have_the_spelling_of_the_ipaddress_module(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int
) -> None:
    network = ipaddress.ip_network(f"{address}/{min(bits, address.max_prefixlen)}", strict=False)
    mapped = network.version == 6 and network.network_address.ipv4_mapped is not None
    if mapped and network.prefixlen >= 96:
        return  # it is IPv4, and spelled so
    text = key_text(schema(Match.CIDR), str(network))
    assert ipaddress.ip_network(text) == network
    assert key_text(schema(Match.CIDR), network.exploded) == text


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        (b"10.0.0.0/8", b"{", "no JSON"),
        (b"10.0.0.0/8", b"7", "no JSON object"),
        (b"10.0.0.0/8", b"[]", "no JSON object"),
        (b"10.0.0.0/8", b'{"top": "secret"}', "top is not decimal(2)"),
        (b"10.0.0.0/8", b'{"top": ["secret"]}', "top is not decimal(2)"),
        (b"10.0.0.0/8", b'{"hot": "secret"}', "hot is not bool"),
        (b"10.0.0.0/8", b'{"id": "11.0.0.0/8"}', "another one than its key"),
        (b"10.0.0.0/8", b'{"expires": 5, "valid_from": 5}', "not later than valid_from"),
        (b"10.0.0.0/8", b'[{"expires": 5}, {"valid_from": 4}]', "hold at the same time"),
        (b"10.0.0.1/8", b"{}", "its key"),
        (b"10.0.0.0/08", None, "its key"),
        (b"010.0.0.0/8", None, "its key"),
        (b"10.0.0.7/32", b"{}", "its key"),  # 10.0.0.7 to publish-table
        (b"2001:DB8::/32", b"{}", "its key"),
        (b"", None, "its key"),
        (b"\xff", None, "its key"),
        (None, b"{}", "its key"),
    ],
)
def test_what_is_refused_changes_nothing(key: bytes | None, value: bytes | None, fault: str) -> None:
    rows = TableRows(schema(Match.CIDR))
    assert rows.apply(b"10.0.0.0/8", b'{"top": 1.5, "hot": true}') is None
    before = {"10.0.0.0/8": [{"id": "10.0.0.0/8", "top": 150, "hot": True}]}
    assert rows.of == before
    said = rows.apply(key, value)
    assert said is not None
    assert fault in said
    assert "secret" not in said
    assert rows.of == before


def test_rows_of_a_key_come_and_go_together() -> None:
    rows, one = TableRows(schema()), schema()
    times = [{"id": "a", "top": 1, "expires": 5}, {"id": "a", "top": 2, "valid_from": 5}]
    assert rows.apply(b"a", row_json(one, times)) is None
    assert rows.of == {"a": times}
    assert rows.apply(b"a", row_json(one, times[:1])) is None
    assert rows.of == {"a": times[:1]}
    assert rows.apply(b"a", b"") is None
    assert len(rows.snapshot()) == 0


def test_a_newer_table_waits_until_it_is_applied() -> None:
    lookups = {"limits": applied([]).snapshot()}
    live = LiveTables([TopicTable("shop.limits", schema())], lookups)
    live.put("shop.limits", applied([("a", 1)]).snapshot(), 4)
    assert (live.versions, len(lookups["limits"])) == ((), 0)
    live.apply()
    assert (live.versions, len(lookups["limits"])) == ((("shop.limits", 4),), 1)
