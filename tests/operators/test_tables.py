"""Look-ups in tables against their scalar twins: the ipaddress module, str.startswith, DuckDB's joins."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.periods import overlap
from operators.prefixes import PREFIX_BYTES_MAX
from operators.schema import DataType, Kind
from operators.tables import LookupTable, Match
from tests.operators.samples import examples

STRING, TIME, INT = DataType(Kind.STRING), DataType(Kind.TIMESTAMP), DataType(Kind.INT64)
Row = Mapping[str, Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAPPED = 0xFFFF << 32


def texts(values: Sequence[str]) -> Any:
    return np.array([*values, ""], np.object_)[:-1]


def table(rows: Sequence[Row], match: Match = Match.EXACT, timed: bool = False) -> LookupTable:
    times = {"valid_from": TIME, "expires": TIME} if timed else {}
    return LookupTable("t", "key", {"key": STRING, "n": INT, **times}, rows, match)


# Networks

NEAR = [0, 1, 0x0A000000, 0x0A0000FF, 0x0A010000, 0xC0A80000, 2**32 - 1]
V4 = st.one_of(st.sampled_from(NEAR), st.integers(0, 2**32 - 1)).map(ipaddress.IPv4Address)
HIGH = [0, 1, 2**64 - 1, 2**128 - 1, 0x20010DB8 << 96, (0x20010DB8 << 96) + 1, MAPPED - 1, MAPPED + 2**32]
V6 = st.one_of(st.sampled_from(HIGH), st.integers(0, 2**128 - 1), st.sampled_from(NEAR).map(MAPPED.__add__)).map(
    ipaddress.IPv6Address
)


def network_around(address: Address, bits: int) -> Network:
    return ipaddress.ip_network(f"{address}/{bits % (address.max_prefixlen + 1)}", strict=False)


NETWORKS = st.builds(network_around, st.one_of(V4, V6), st.one_of(st.integers(0, 128), st.just(32), st.just(24)))


def spellings(address: Address) -> list[str]:
    if isinstance(address, ipaddress.IPv4Address):
        return [str(address), f"::ffff:{address}", f"0:0::FFFF:{int(address) >> 16:x}:{int(address) & 65535:X}"]
    return [str(address), address.exploded, str(address).upper()]


def as_v4(network: Network) -> Network:
    """IPv4 written as IPv6 is IPv4."""
    mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped
    if not mapped or network.prefixlen < 96:
        return network
    return ipaddress.ip_network((int(mapped), network.prefixlen - 96))


def longest(networks: Sequence[Network], address: Address) -> int | None:
    """The row of the longest network around the address, by the standard library."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    around = [(n.prefixlen, row) for row, n in enumerate(networks) if (mapped or address) in n]
    return max(around)[1] if around else None


@examples(200)
@given(st.lists(NETWORKS, max_size=12), st.lists(st.one_of(V4, V6), min_size=1, max_size=12), st.integers(0, 2))
@example([ipaddress.ip_network("::/0"), ipaddress.ip_network("0.0.0.0/0")], [ipaddress.ip_address("::ffff:0:0")], 0)
def test_the_longest_network_wins(declared: list[Network], addresses: list[Address], spelling: int) -> None:
    known = {as_v4(network): network for network in declared}
    networks = list(known)
    rows = [{"key": str(written), "n": row} for row, written in enumerate(known.values())]
    made = table(rows, Match.CIDR)
    # Each network's ends and neighbours are the values that a wrong border would get wrong.
    ends = [end for n in networks for end in (int(n.network_address), int(n.broadcast_address))]
    kinds = [type(n.network_address) for n in networks for _ in range(2)]
    near = [
        kind(value + step)
        for value, kind in zip(ends, kinds, strict=True)
        for step in (-1, 0, 1)
        if 0 <= value + step < 2 ** kind(0).max_prefixlen
    ]
    asked = addresses + near
    values = texts([spellings(address)[spelling] for address in asked])
    wanted = [longest(networks, address) for address in asked]
    found = made.lookup(values, "n")
    assert found.valid is not None
    assert [
        n if there else None for n, there in zip(found.values.tolist(), found.valid.tolist(), strict=True)
    ] == wanted
    assert made.contains(values).tolist() == [one is not None for one in wanted]


@examples(200)
@given(st.text(alphabet="0123456789abcfFx.:/%g ", max_size=20))
@example("1.2.3.4\0")
@example("01.2.3.4")
@example("\ud800")
@example("fe80::1%eth0")
def test_what_is_no_address_is_in_no_network(text: str) -> None:
    try:
        ipaddress.ip_address(text)
        is_one = "%" not in text  # with a zone it is an address of one machine only
    except ValueError:
        is_one = False
    everything = table([{"key": "0.0.0.0/0"}, {"key": "::/0"}], Match.CIDR)
    assert everything.contains(texts([text])).tolist() == [is_one]


@examples(200)
@given(st.text(alphabet="0123456789af.:/", max_size=16), st.one_of(V4, V6), st.integers(0, 140))
def test_networks_are_those_of_the_standard_library(noise: str, address: Address, bits: int) -> None:
    for text in (noise, f"{address}/{bits}", f"{address}/0{bits}", str(address)):
        try:
            wanted = bool(ipaddress.ip_network(text))
        except ValueError:
            wanted = False
        written = text.rpartition("/")[2] if "/" in text else "1"
        wanted = wanted and (written == "0" or (written.isdecimal() and written[0] != "0"))  # no masks, no zeros before
        if wanted:
            assert len(table([{"key": text}], Match.CIDR)) == 1
        else:
            with pytest.raises(ValueError, match="row 1 has no cidr"):
                table([{"key": text}], Match.CIDR)


# Prefixes

PIECES = st.text(alphabet=["0", "1", "9", "a", "é", "漢", "\U0010ffff", "\ud7ff", "\ue000"], max_size=5)


@examples(200)
@given(
    st.lists(PIECES.filter(bool), max_size=15, unique=True),
    st.lists(st.text(alphabet="019aé漢\U0010ffff\0", max_size=8), min_size=1),
)
def test_the_longest_prefix_wins(keys: list[str], values: list[str]) -> None:
    made = table([{"key": key, "n": n} for n, key in enumerate(keys)], Match.PREFIX)
    asked = values + [key + more for key in keys for more in ("", "0", "\U0010ffff", "\0")]
    fits = [[key for key in keys if value.startswith(key)] for value in asked]
    wanted = [max(of_one, key=len) if of_one else None for of_one in fits]
    found = made.lookup(texts(asked), "key")
    assert found.valid is not None
    assert [
        k if there else None for k, there in zip(found.values.tolist(), found.valid.tolist(), strict=True)
    ] == wanted
    assert made.contains(texts(asked)).tolist() == [one is not None for one in wanted]


@pytest.mark.parametrize("prefix", ["", "1\0", "1" * (PREFIX_BYTES_MAX + 1), "é" * (PREFIX_BYTES_MAX // 2 + 1)])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(ValueError, match="row 1 has no prefix"):
        table([{"key": prefix}], Match.PREFIX)
    assert len(table([{"key": "é" * (PREFIX_BYTES_MAX // 2)}], Match.PREFIX)) == 1


# Rows that hold for a time

MOMENTS = st.integers(-5, 30)
KEYS: dict[Match, list[str]] = {
    Match.EXACT: ["a", "b", "", "ab"],
    Match.CIDR: ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0"],
    Match.PREFIX: ["4", "41", "411", "4111", "42", "5"],
}
ASKED: dict[Match, list[str]] = {
    Match.EXACT: ["a", "b", "", "ab", "c"],
    Match.CIDR: ["10.1.2.3", "10.1.2.4", "10.1.3.0", "10.2.0.0", "9.0.0.0", "2001:db8::1", "::1", "no address"],
    Match.PREFIX: ["41115", "4112", "412", "42", "43", "5", "6", ""],
}


def fits(match: Match, key: str, value: str) -> bool:
    if match is Match.EXACT:
        return key == value
    if match is Match.PREFIX:
        return value.startswith(key)
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(key)
    except ValueError:
        return False


def length(match: Match, key: str) -> int:
    return ipaddress.ip_network(key).prefixlen if match is Match.CIDR else len(key)


def holds(row: Row, time: int) -> bool:
    start, stop = row.get("valid_from"), row.get("expires")
    return (start is None or start <= time) and (stop is None or time < stop)


@st.composite
def timed_rows(draw: st.DrawFn, match: Match) -> list[Row]:
    """Rows of which those of one key do not overlap: each key's line of time is cut at some moments."""
    rows: list[dict[str, Any]] = []
    for key in draw(st.lists(st.sampled_from(KEYS[match]), unique=True)):
        cuts = sorted(draw(st.sets(MOMENTS, max_size=4)))
        bounds: list[int | None] = [None, *cuts, None]
        for start, stop in pairwise(bounds):
            if draw(st.booleans()):
                rows.append({"key": key, "valid_from": start, "expires": stop})
    return [{**row, "n": n} for n, row in enumerate(draw(st.permutations(rows)))]


@pytest.mark.parametrize("match", list(Match))
@examples(200)
@given(data=st.data())
def test_of_the_rows_that_hold_the_longest_wins(match: Match, data: st.DataObject) -> None:
    rows = data.draw(timed_rows(match))
    asked = data.draw(st.lists(st.tuples(st.sampled_from(ASKED[match]), MOMENTS), min_size=1, max_size=30))
    made = table(rows, match, timed=True)
    values, times = texts([value for value, _ in asked]), np.array([time for _, time in asked])
    wanted = []
    for value, time in asked:
        good = [row for row in rows if fits(match, row["key"], value) and holds(row, time)]
        wanted.append(max(good, key=lambda row: length(match, row["key"]))["n"] if good else None)
    found = made.lookup(values, "n", times)
    assert found.valid is not None
    assert [
        n if there else None for n, there in zip(found.values.tolist(), found.valid.tolist(), strict=True)
    ] == wanted
    assert made.contains(values, times).tolist() == [one is not None for one in wanted]
    every = [sorted(row["n"] for row in rows if fits(match, row["key"], value)) for value, _ in asked]
    assert [sorted(made.candidates(value).tolist()) for value, _ in asked] == every


@examples(40)
@given(timed_rows(Match.EXACT), st.lists(st.tuples(st.sampled_from(ASKED[Match.EXACT]), MOMENTS), min_size=1))
def test_a_look_up_at_a_time_is_duckdbs_join(rows: list[Row], asked: list[tuple[str, int]]) -> None:
    with duckdb.connect() as base:
        base.execute("CREATE TABLE t (key VARCHAR, valid_from BIGINT, expires BIGINT, n BIGINT)")
        base.execute("CREATE TABLE asked (place BIGINT, value VARCHAR, moment BIGINT)")
        for row in rows:
            base.execute("INSERT INTO t VALUES (?, ?, ?, ?)", [row[c] for c in ("key", "valid_from", "expires", "n")])
        for place, (value, at) in enumerate(asked):
            base.execute("INSERT INTO asked VALUES (?, ?, ?)", [place, value, at])
        wanted = base.execute(
            "SELECT n FROM asked LEFT JOIN t ON value = key AND coalesce(valid_from <= moment, true) "
            "AND coalesce(moment < expires, true) ORDER BY place"
        ).fetchall()
    made = table(rows, timed=True)
    found = made.lookup(texts([value for value, _ in asked]), "n", np.array([at for _, at in asked]))
    assert found.valid is not None
    assert [n if there else None for n, there in zip(found.values.tolist(), found.valid.tolist(), strict=True)] == [
        n for (n,) in wanted
    ]


BOUNDS = st.tuples(st.integers(0, 2), MOMENTS, MOMENTS).filter(lambda one: one[1] < one[2])


@examples(200)
@given(st.lists(BOUNDS, max_size=8))
def test_rows_of_one_key_that_overlap_are_found(rows: list[tuple[int, int, int]]) -> None:
    clashing = {
        (later, first)
        for later, (key, start, stop) in enumerate(rows)
        for first, (other, other_start, other_stop) in enumerate(rows[:later])
        if key == other and start < other_stop and other_start < stop
    }
    keys, starts, stops = (np.array([row[n] for row in rows], np.int64) for n in range(3))
    found = overlap(keys.astype(np.intp), starts, stops)
    assert (found in clashing) if clashing else (found is None)


def test_a_table_refuses_rows_that_overlap() -> None:
    rows: list[Row] = [{"key": "a", "expires": 10}, {"key": "b"}, {"key": "a", "valid_from": 9}]
    with pytest.raises(ValueError, match="table t: row 3 repeats an earlier row's key"):
        table(rows, timed=True)
    assert len(table([*rows[:2], {"key": "a", "valid_from": 10}], timed=True)) == 3


@pytest.mark.parametrize(
    ("match", "keys"),
    [
        (Match.CIDR, ["1.2.3.4", "1.2.3.4/32"]),
        (Match.CIDR, ["::ffff:10.0.0.0/104", "10.0.0.0/8"]),
        (Match.CIDR, ["2001:DB8:0::/32", "2001:db8::/32"]),
        (Match.PREFIX, ["41", "41"]),
    ],
)
def test_keys_are_the_same_however_written(match: Match, keys: list[str]) -> None:
    with pytest.raises(ValueError, match="row 2 repeats"):
        table([{"key": key} for key in keys], match)


@pytest.mark.parametrize("match", list(Match))
@pytest.mark.parametrize("timed", [False, True])
def test_empty_tables_and_empty_batches(match: Match, timed: bool) -> None:
    times = np.array([5])
    nothing = table([], match, timed)
    assert nothing.contains(texts(["10.0.0.1"]), times).tolist() == [False]
    assert nothing.candidates("10.0.0.1").tolist() == []
    full = table([{"key": "10.0.0.1"}], match, timed)
    assert full.contains(texts([]), times[:0]).tolist() == []
    assert full.contains(texts(["10.0.0.1"]), times).tolist() == [True]


def test_only_timestamps_make_a_table_timed() -> None:
    kinds = {"key": STRING, "expires": STRING}
    assert not LookupTable("t", "key", kinds, []).schema.timed
    assert LookupTable("t", "key", kinds | {"expires": TIME}, []).schema.timed
    assert LookupTable("t", "key", kinds | {"valid_from": TIME}, []).schema.timed
