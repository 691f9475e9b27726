"""`format:` and its keys: what they compile to, and that wrong ones are named."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from operators.schema import FieldSpec
from state.errors import ConfigError
from tests.language.helpers import BASE, changed, compiled

ID = "    id: transaction_id\n"
AMOUNT = "      amount: decimal(2)\n"
FIELDS = ("transaction_id", "card_id", "amount", "price", "country", "event_time")


def of(format_: str, *changes: tuple[str, str], **keys: str) -> str:
    more = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return changed((ID, f"{ID}    format: {format_}\n{more}"), *changes)


def refused(text: str, file: str = "p.yaml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compiled(text, file)
    return str(caught.value).splitlines()


def spec(text: str, name: str) -> FieldSpec:
    return compiled(text).stream.field(name)


@pytest.mark.parametrize(
    ("format_", "field", "wanted"),
    [
        ("json", "{type: timestamp, encoding: micros}", "encoding: format json has none (format: debezium)"),
        ("avro", "{type: timestamp, encoding: micros}", "encoding: format avro has none (Avro's schema says it)"),
        ("debezium", "{type: timestamp, encoding: micro}", "unknown encoding 'micro' (did you mean micros?)"),
        ("debezium", "{type: timestamp, encoding: unscaled}", "encoding: unscaled is of a decimal, not of timestamp"),
        ("debezium", "{type: string, encoding: days}", "encoding: days is of a timestamp, not of string"),
        ("debezium", "{type: string, from: __opp}", "from: '__opp' is no part of a change event (did you mean __op?)"),
        ("debezium", "{type: timestamp, from: __sourcets_ms}", "no part of a change event (did you mean __source_ts_"),
        ("debezium", "{type: string, from: __before_}", "'__before_' is no part of a change event (__before_NAME)"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(format_: str, field: str, wanted: str) -> None:
    (line,) = refused(of(format_, (AMOUNT, AMOUNT + f"      x: {field}\n")))
    assert wanted in line
    assert line.startswith("p.yaml:11:")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (of("avor"), "p.yaml:5:13: unknown format 'avor' (did you mean avro?)"),
        (of("debezium", schema="a.avsc"), "p.yaml:6:5: schema: format debezium has none (format: avro)"),
        (changed((ID, ID + "    registry: http://h\n")), "p.yaml:5:5: registry: format json has none (format: avro)"),
        (of("avro", registry="h:8081"), "p.yaml:6:15: 'h' names no schema registry (http://host:8081, or file:DIR"),
        (of("avro", registry="registry"), "p.yaml:6:15: 'registry' names no schema registry"),
        (of("avro", registry="https://me:word@h"), "p.yaml:6:15: registry: credentials do not belong into a file (set"),
    ],
)
def test_a_wrong_stream_is_named(text: str, wanted: str) -> None:
    (line,) = refused(text)
    assert line.startswith(wanted)
    assert "word" not in line


def test_encodings_and_parts_reach_the_schema() -> None:
    text = of("debezium", (AMOUNT, "      amount: {type: decimal(2), from: __before_sum, encoding: unscaled}\n"))
    assert compiled(text).stream.format == "debezium"
    assert (spec(text, "amount").source, spec(text, "amount").encoding) == ("__before_sum", "unscaled")
    assert spec(of("debezium", (AMOUNT, "      amount: {type: decimal(2), from: __v}\n")), "amount").source == "__v"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fields: list[Any] = [{"name": name, "type": "string"} for name in FIELDS]
    (tmp_path / "good.avsc").write_text(json.dumps({"type": "record", "name": "P", "fields": fields}))
    (tmp_path / "lacking.avsc").write_text(
        json.dumps({"type": "record", "name": "P", "fields": fields[:2] + fields[3:]})
    )
    (tmp_path / "text.avsc").write_text('"string"')
    (tmp_path / "broken.avsc").write_text("{")
    (tmp_path / "latin.avsc").write_bytes(b"\xff")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "place", "wanted"),
    [
        ("none.avsc", "6:13", "schema: none.avsc cannot be read: No such file or directory"),
        ("text.avsc", "6:13", "schema: text.avsc: this is no Avro schema of a record"),
        ("broken.avsc", "6:13", "schema: broken.avsc: an Avro schema must be JSON"),
        ("latin.avsc", "6:13", "schema: latin.avsc cannot be read: not UTF-8 text"),
        ("lacking.avsc", "12:15", "field amount: lacking.avsc has no field 'amount'"),
    ],
)
def test_a_wrong_schema_is_named(folder: Path, file: str, place: str, wanted: str) -> None:
    (line,) = refused(of("avro", schema=file, registry="file:schemas"), str(folder / "p.yaml"))
    where, said = line.removeprefix(f"{folder}/p.yaml:").split(": ", 1)
    assert said.startswith(wanted)
    assert where == place


def test_a_reader_s_schema_and_a_folder_are_relative_to_the_pipeline(folder: Path) -> None:
    plan = compiled(of("avro", schema="good.avsc", registry="file:schemas"), str(folder / "p.yaml"))
    assert plan.stream.reader_schema == (folder / "good.avsc").read_text()
    assert plan.stream.registry == f"file:{folder}/schemas"
    assert compiled(of("avro", registry="https://h:8081/x")).stream.registry == "https://h:8081/x"


def test_without_fastavro_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "fastavro":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    (line,) = refused(of("avro"))
    assert line.endswith("format avro needs fastavro (pip install 'streamproc[avro]')")


def test_formats_are_part_of_the_states_fingerprint_and_json_is_not(folder: Path) -> None:
    """The digest of plain JSON's is that of a pipeline that has never heard of formats: state of before stays good."""
    prints = {
        compiled(text, str(folder / "p.yaml")).state_fingerprint
        for text in (
            BASE, of("debezium"), of("avro"), of("avro", schema="good.avsc"),
            of("debezium", (AMOUNT, "      amount: {type: decimal(2), encoding: unscaled}\n")),
        )
    }  # fmt: skip
    assert len(prints) == 5
    assert compiled(BASE).state_fingerprint == compiled(of("json")).state_fingerprint
    where = compiled(of("avro", registry="http://elsewhere"), str(folder / "p.yaml")).state_fingerprint
    assert where in prints
