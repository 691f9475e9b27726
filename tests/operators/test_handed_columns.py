"""What is read of columns that are handed on is what the decoder reads from the records they were written to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Column
from operators.decode import Decoded, RecordDecoder
from operators.handed_columns import HandedDecoder, HandedLayout
from operators.handoff import HandoffEncoder
from operators.plan import ROUTE, Handoff
from operators.schema import FieldSpec, Kind, StreamSchema
from tests.operators.samples import NOW, column, examples, type_of

KINDS = {"n": "int64", "x": "float64", "money": "decimal(2)", "whole": "decimal(0)", "text": "string", "yes": "bool"}
KINDS["seen"] = "timestamp"
FIELDS = {"id": "string", "at": "timestamp", "card": "string"} | KINDS
SCHEMA = StreamSchema(
    "payments", "payments.second", tuple(
        FieldSpec(name, type_of(kind), name, required=name in ("card", ROUTE), made=name in KINDS)
        for name, kind in (FIELDS | {ROUTE: "string"}).items()
    ), "id", "at", ROUTE, max_ahead_ms=1 << 62,
)  # fmt: skip
MINOR = 10**15 - 1  # what need not be read by its digits
TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999)
VALUES = {
    "n": st.integers(-(1 << 63), (1 << 63) - 1),
    "x": st.floats(allow_nan=False, allow_infinity=False),
    "money": st.integers(-MINOR, MINOR),
    "whole": st.integers(-MINOR, MINOR),
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "yes": st.booleans(),
    "seen": TIMES,
}


class NoDecoder(RecordDecoder):
    """Must not be asked."""

    def __init__(self) -> None:
        pass

    def decode(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded:
        raise AssertionError("records are read")


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, Column]:
    """With anything under a NULL."""
    found = {name: column(kind, [row.get(name) for row in rows]) for name, kind in KINDS.items()}
    for of_type, values, valid in found.values():
        if valid is not None:
            values[~valid] = "junk" if of_type.kind is Kind.STRING else 1
    found |= {"id": column("string", [f"p{i}" for i in range(len(rows))]), "card": column("string", ["c"] * len(rows))}
    return found | {"at": column("timestamp", [row.get("at", NOW) for row in rows])}


def written(columns: dict[str, Column]) -> tuple[list[bytes], dict[str, Column]]:
    """The records of rows, and what is at hand of them."""
    count = len(columns["id"].values)
    encoder = HandoffEncoder(Handoff("payments.second", "id", tuple(FIELDS)), digests=False, passes=False)
    none, every = np.zeros(count, np.int64), np.arange(count)
    ids = columns["id"].values.tolist()
    handed = encoder.encode(ids, columns, {}, fresh=every, digests=none, values=[b""] * count, arrived=none)
    return handed.texts, columns | {ROUTE: column("string", handed.routes)}


def told(decoded: Decoded) -> dict[str, tuple[Any, ...]]:
    """All that counts: -0.0 is not 0.0, and what stands under a NULL is blank."""
    found: dict[str, tuple[Any, ...]] = {}
    for name in (spec.name for spec in SCHEMA.fields):
        of_type, values, valid = decoded.columns[name]
        known = np.ones(len(values), np.bool_) if valid is None else valid
        found[name] = of_type, values.dtype, list(map(repr, values.tolist())), known.tolist()
    rows, times = decoded.rows.tolist(), decoded.event_time.tolist()
    return found | {"rows": (rows, decoded.ids, decoded.keys, times, decoded.rejects, decoded.extras)}


@examples(150)
@given(st.data())
def test_it_is_what_the_decoder_reads(data: st.DataObject) -> None:
    known = {name: st.none() | values for name, values in VALUES.items()}
    rows = data.draw(st.lists(st.fixed_dictionaries(known | {"at": st.integers(0, NOW)}), min_size=1, max_size=6))
    texts, columns = written(columns_of(rows))
    order = data.draw(st.permutations(range(len(rows))))
    order = order[: data.draw(st.integers(1, len(rows)))]
    values, times = [texts[i] for i in order], [NOW] * len(order)
    found = HandedDecoder(NoDecoder(), SCHEMA, columns, np.array(order)).decode(values, times)
    assert told(found) == told(RecordDecoder(SCHEMA).decode(values, times))


@pytest.mark.parametrize(
    "row",
    [
        {"x": math.inf}, {"x": math.nan}, {"money": MINOR + 1}, {"whole": -MINOR - 1}, {"seen": 1 << 60},
        {"text": "a" * 300_000}, {"at": -1}, {"at": None},
    ],
)  # fmt: skip
def test_what_is_not_sure_is_read(row: dict[str, Any]) -> None:
    texts, columns = written(columns_of([{}, row]))
    values, times = texts, [NOW] * 2
    order = np.arange(2)
    with pytest.raises(AssertionError, match="records are read"):
        HandedDecoder(NoDecoder(), SCHEMA, columns, order).decode(values, times)
    found = HandedDecoder(RecordDecoder(SCHEMA), SCHEMA, columns, order).decode(values, times)
    assert told(found) == told(RecordDecoder(SCHEMA).decode(values, times))


@pytest.mark.parametrize("change", ["fewer", "other type", "not there", "no card", "no route"])
def test_records_that_are_not_of_these_columns_are_read(change: str) -> None:
    texts, columns = written(columns_of([{}, {"n": 1}]))
    order = np.arange(2)
    match change:
        case "fewer":
            order = order[:1]
        case "other type":
            columns["n"] = column("float64", [1.0, 2.0])
        case "not there":
            del columns["n"]
        case "no card":
            columns["card"] = column("string", [None, "c"])
        case _:
            columns[ROUTE] = column("string", [None, "p1"])
    with pytest.raises(AssertionError, match="records are read"):
        HandedDecoder(NoDecoder(), SCHEMA, columns, order).decode(texts, [NOW] * 2)


def test_columns_that_the_stage_does_not_read_come_along() -> None:
    texts, columns = written(columns_of([{}, {}]))
    columns["behind"] = column("int64", [1, None])
    found = HandedDecoder(NoDecoder(), SCHEMA, columns, np.array([1, 0])).decode(texts[::-1], [NOW] * 2)
    assert found.columns["behind"].valid is not None
    assert found.columns["behind"].valid.tolist() == [False, True]


@examples(60)
@given(st.data())
def test_a_layout_serves_batches_whose_columns_change(data: st.DataObject) -> None:
    layout = HandedLayout(SCHEMA)
    for _ in range(4):
        rows = data.draw(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=3))
        _, columns = written(columns_of(rows))
        more = data.draw(st.sampled_from(["none", "behind", "of another type", "one is lost"]))
        if more in ("behind", "of another type"):
            kind = "int64" if more == "behind" else "float64"
            columns = {"behind": column(kind, [1.0] * len(rows)), **columns}
        elif more == "one is lost":
            del columns["n"]
        order = np.arange(len(rows))[::-1] if data.draw(st.booleans()) else None
        found, fresh = layout.read(columns, order), HandedLayout(SCHEMA).read(columns, order)
        if found is None or fresh is None:
            assert found is fresh
            assert more == "one is lost"
            continue
        assert [(name, *map(repr, one)) for name, one in found.items()] == [
            (name, *map(repr, one)) for name, one in fresh.items()
        ]
