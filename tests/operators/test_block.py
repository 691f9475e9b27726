"""The feature block: what goes in comes back, with the decision's names and values."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Column
from operators.block import BlockEncoder, BlockRows, block_records, read_block
from operators.decide import Decided, RuleDecider
from operators.encode import DecisionEncoder, json_encoder
from operators.plan import DecisionSpec, Plan, RuleSpec
from operators.schema import StreamSchema
from state.errors import ConfigError, RecordError, StateCorruptedError
from tests.operators.samples import column, examples, plan_of, stream, type_of

FEATURES = {
    "n": "int64", "x": "float64", "amount": "decimal(2)", "big": "decimal(0)", "s": "string", "b": "bool",
    "t": "timestamp",
}  # fmt: skip
DECISION = DecisionSpec(("decline", "approve"), "approve", tuple(FEATURES), score="fraud.score")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(-(2**63), 2**63 - 1),
    "x": st.floats(allow_nan=False, allow_infinity=False),
    "amount": st.integers(-(2**53) + 1, 2**53 - 1),
    "big": st.integers(-(2**53) + 1, 2**53 - 1),
    "s": st.text(max_size=5),
    "b": st.booleans(),
    "t": st.integers(-(10**13), 10**13),
    "fraud.score": st.floats(0, 100),
}


def rules(count: int) -> list[RuleSpec]:
    return [RuleSpec(f"r{i}", f"c{i}", "decline", f"reason {i}") for i in range(count)]


def plan(count: int = 2, features: dict[str, str] | None = None, schema: StreamSchema | None = None) -> Plan:
    return plan_of(schema or stream({}), FEATURES if features is None else features, rules(count), DECISION)


def decided(hits: list[list[bool]], count: int = 2) -> Decided:
    columns = {f"c{i}": column("bool", [row[i] for row in hits]) for i in range(count)}
    return RuleDecider(rules(count), DECISION).decide(columns, len(hits))


def named(size: int) -> BlockRows:
    offsets = np.arange(size, dtype=np.int64) + 7
    return BlockRows([f"t{i}" for i in range(size)], [f"c{i}" for i in range(size)], offsets, offsets * 1000)


@examples(100)
@given(
    st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=5),
    st.data(),
)
def test_a_block_gives_back_what_the_decision_says(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    types = {**FEATURES, "fraud.score": "float64"}
    columns = {name: column(kind, [row[name] for row in rows]) for name, kind in types.items()}
    hits = [data.draw(st.lists(st.booleans(), min_size=2, max_size=2)) for _ in rows]
    done = decided(hits)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    given_rows = named(len(rows))
    block = block_of(BlockEncoder(plan(), done.action_names), given_rows, done, columns, start, stop)
    records = block_records(read_block(block))
    kinds = {name: type_of(kind) for name, kind in types.items()}
    decisions = DecisionEncoder(stream({}), DECISION, kinds).encode(
        list(given_rows.ids), list(given_rows.keys), given_rows.event_time, done, columns
    )
    assert len(records) == stop - start
    for i, record in zip(range(start, stop), records, strict=True):
        line = json.loads(json_encoder.encode(record), parse_float=str)
        assert line.pop("offset") == 7 + i
        assert line.pop("rules") == [f"r{k}" for k in range(2) if hits[i][k]]
        decision = json.loads(decisions[i], parse_float=str)
        del decision["reasons"]
        assert line == decision


def block_of(
    made: BlockEncoder, rows: BlockRows, done: Decided, columns: dict[str, Column], start: int = 0,
    stop: int | None = None,
) -> bytes:  # fmt: skip
    return made.encode(made.arrays(rows, done, columns), start, stop)


def test_a_block_is_plain_arrow() -> None:
    columns = {name: column(kind, [None, 1 if name not in "sb" else {"s": "x", "b": True}[name]])
               for name, kind in {**FEATURES, "fraud.score": "float64"}.items()}  # fmt: skip
    done = decided([[True, False], [False, False]])
    table = pa.ipc.open_stream(block_of(BlockEncoder(plan(), done.action_names), named(2), done, columns)).read_all()
    assert table.schema.names == ["id", "card", "offset", "event_time", *FEATURES, "score", "decision", "rules"]
    assert table.schema.field("amount").metadata == {b"scale": b"2"}
    assert table.column("amount").to_pylist() == [None, 1]
    assert table.column("decision").to_pylist() == [0, 1]
    assert table.column("rules").to_pylist() == [1, 0]


def test_more_rules_than_a_word_has_bits() -> None:
    hits = [[i in (0, 64, 99) for i in range(100)], [False] * 100]
    done = decided(hits, 100)
    made = BlockEncoder(plan(100, {}), done.action_names)
    columns = {"fraud.score": column("float64", [1.0, 2.0])}
    records = block_records(read_block(block_of(made, named(2), done, columns)))
    assert [record["rules"] for record in records] == [["r0", "r64", "r99"], []]
    (last,) = block_records(read_block(block_of(made, named(2), done, columns, 1)))
    assert (last["id"], last["rules"], last["score"]) == ("t1", [], 2.0)


def test_without_a_model_the_score_is_zero_as_in_the_decision() -> None:
    decision = DecisionSpec(("decline", "approve"), "approve")
    done = decided([[False, False]])
    made = BlockEncoder(plan_of(stream({}), {}, rules(2), decision), done.action_names)
    (record,) = block_records(read_block(block_of(made, named(1), done, {})))
    assert record == {
        "id": "t0", "card": "c0", "offset": 7, "event_time": 7000, "score": 0.0, "decision": "approve", "rules": [],
    }  # fmt: skip


def test_a_key_that_is_the_id_appears_once() -> None:
    schema = StreamSchema("s", "s", stream({}).fields, id="id", event_time="at", key="id")
    done = decided([[False, False]])
    columns = {"fraud.score": column("float64", [1.0])}
    table = read_block(block_of(BlockEncoder(plan(2, {}, schema), done.action_names), named(1), done, columns))
    assert table.schema.names == ["id", "offset", "event_time", "score", "decision", "rules"]


@pytest.mark.parametrize("name", ["offset", "event_time", "decision", "score", "rules"])
def test_a_feature_may_not_take_a_name_of_the_block(name: str) -> None:
    with pytest.raises(ConfigError, match=f"a column {name} of its own"):
        BlockEncoder(plan(2, {name: "int64"}), ("approve",))


def test_text_that_is_not_unicode_is_the_rows_fault() -> None:
    done = decided([[False, False]])
    columns = {"s": column("string", ["\ud800"]), "fraud.score": column("float64", [1.0])}
    with pytest.raises(RecordError, match="not_unicode"):
        block_of(BlockEncoder(plan(2, {"s": "string"}), done.action_names), named(1), done, columns)


def test_what_is_no_block_is_refused() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("a", pa.int64())])):
        pass
    for block in (b"", b"nonsense", sink.getvalue().to_pybytes()):
        with pytest.raises(StateCorruptedError, match="feature block"):
            read_block(block)
    done = decided([[False, False]])
    made = BlockEncoder(plan(2, {}), done.action_names)
    good = block_of(made, named(1), done, {"fraud.score": column("float64", [1.0])})
    with pytest.raises(StateCorruptedError):
        read_block(good[: len(good) // 2])


def test_blocks_of_all_tasks_are_those_of_each() -> None:
    columns = {name: column(kind, [None, 1 if name not in "sb" else {"s": "é", "b": True}[name], None])
               for name, kind in {**FEATURES, "fraud.score": "float64"}.items()}  # fmt: skip
    done = decided([[True, False], [False, False], [True, True]])
    made = BlockEncoder(plan(), done.action_names)
    arrays = made.arrays(named(3), done, columns)
    want = [made.encode(arrays, 0, 2), made.encode(arrays, 2, 3)]
    for _ in range(2):  # by columns, and where it can be by a loop
        assert made.encode_all(arrays, np.array([[0, 2], [2, 3]])) == want
        made.prepare()
    assert [made.digest(block) for block in want] == [hashlib.sha256(block).digest() for block in want]
