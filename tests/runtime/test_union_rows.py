"""Records of several streams in one batch: those of a stream are read as if they had come alone."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.decode import RecordDecoder
from operators.schema import FieldSpec, StreamSchema
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.rows import Rows, TaskInput
from streamproc.runtime.union_rows import decode_union
from tests.operators.samples import NOW, examples, type_of


def stream(name: str, **kinds: str) -> StreamSchema:
    fields = {"id": "string", "at": "timestamp", "card": "string"} | kinds
    specs = tuple(FieldSpec(field, type_of(kind), field) for field, kind in fields.items())
    return StreamSchema(name, f"topic.{name}", specs, "id", "at", "card")


STREAMS = (
    stream("payments", amount="decimal(2)", n="int64", shop="string"),
    stream("accounts", action="string", n="int64", yes="bool", x="float64", seen="timestamp"),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "amount": st.integers(0, 99), "n": st.integers(0, 99), "shop": st.text("ab", max_size=2), "action": st.text("cd"),
    "yes": st.booleans(), "x": st.floats(0, 1), "seen": st.integers(0, NOW),
}  # fmt: skip
Chunks = list[tuple[int, list[bytes]]]


@st.composite
def records(draw: st.DrawFn) -> tuple[int, list[bytes]]:
    """The number of their stream, and what came; some are bad."""
    number = draw(st.integers(0, 1))
    own = {spec.name: st.none() | VALUES[spec.name] for spec in STREAMS[number].fields if spec.name in VALUES}
    good = st.fixed_dictionaries({"id": st.just("p"), "at": st.integers(0, NOW), "card": st.sampled_from("ab")} | own)
    return number, draw(st.lists(st.just(b"{") | good.map(msgspec.json.encode), max_size=4))


def decoded(tasks: list[Chunks]) -> Rows:
    inputs = []
    for task, chunks in enumerate(tasks):
        made, next_offset = [], [0, 0]
        for number, values in chunks:
            start, end = next_offset[number], next_offset[number] + len(values)
            next_offset[number] = end
            tp, count = TopicPartition(STREAMS[number].topic, task), len(values)
            made.append(Chunk(tp, range(start, end), [b""] * count, list(values), [NOW] * count, end))
        inputs.append(TaskInput(task, TopicPartition(STREAMS[0].topic, task), made))
    return decode_union(STREAMS, [RecordDecoder(one) for one in STREAMS], inputs)


def told(rows: Rows) -> dict[str, Any]:
    columns = {}
    for name, (of_type, values, valid) in rows.columns.items():
        known = np.ones(rows.size, np.bool_) if valid is None else valid
        columns[name] = of_type, values.dtype, values.tolist(), known.tolist()
    assert rows.streams is not None
    return {
        "columns": columns, "spans": rows.spans, "offsets": rows.offsets.tolist(), "at": rows.timestamps.tolist(),
        "values": rows.values, "ids": rows.ids, "keys": rows.keys, "times": rows.event_time.tolist(),
        "streams": rows.streams.tolist(), "topics": rows.topics,
    }  # fmt: skip


@examples(150)
@given(st.lists(st.lists(records(), max_size=4), min_size=1, max_size=3))
def test_records_of_a_stream_are_read_as_if_they_had_come_alone(tasks: list[Chunks]) -> None:
    every = decoded(tasks)
    assert every.streams is not None
    assert list(every.columns) == list(decoded([]).columns)
    for number in (0, 1):
        mine = [[chunk for chunk in chunks if chunk[0] == number] for chunks in tasks]
        alone = decoded(mine)
        assert told(every.take(np.flatnonzero(every.streams == number))) == told(alone)
        assert list(alone.columns) == list(every.columns)
        topic = STREAMS[number].topic
        assert [letter for letter in every.refused if letter.topic == topic] == alone.refused
