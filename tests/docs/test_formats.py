"""docs/language/formats.md: its examples run, and it names what there is."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from operators import avro, debezium, wire
from streamproc.cli.main import run_command
from streamproc.language import compile_pipeline, read_pipeline
from streamproc.language.formats import FORMATS

TEXT = (Path(__file__).parents[2] / "docs" / "language" / "formats.md").read_text()
CHANGES, PAYMENTS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
(EVENT,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)


def test_the_change_event_is_decided_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(CHANGES)
    (tmp_path / "event.ndjson").write_text(json.dumps(json.loads(EVENT)) + "\n")
    output = tmp_path / "o.parquet"
    given = ["backtest", tmp_path / "accounts.yaml", "--input", tmp_path / "event.ndjson", "--output", output]
    assert run_command([str(word) for word in given]) == 0
    (row,) = pq.read_table(output).to_pylist()
    assert (row["decision"], row["op"], row["limit"]) == ("review", "u", Decimal("12.34"))
    assert str(row["opened"]).startswith("2018-06-20 15:13:16.945")


def test_the_avro_pipeline_compiles(tmp_path: Path) -> None:
    fields = [{"name": name, "type": "string"} for name in ("payment", "card", "amount", "at")]
    (tmp_path / "payment.avsc").write_text(json.dumps({"type": "record", "name": "Payment", "fields": fields}))
    plan = compile_pipeline(read_pipeline(PAYMENTS, str(tmp_path / "shop.yaml")))
    assert (plan.stream.format, plan.stream.registry) == ("avro", "http://localhost:8081")


@pytest.mark.parametrize("name", [*FORMATS, *wire.PER_MS, "days", "unscaled", *debezium.META])
def test_it_names_what_there_is(name: str) -> None:
    assert re.search(rf"^\|.*`{name}`", TEXT, re.MULTILINE)


def test_it_names_every_reason() -> None:
    source = "".join(Path(str(module.__file__)).read_text() for module in (avro, debezium, wire))
    reasons = set(re.findall(r'RecordError\(\s*"(\w+)"', source)) | set(re.findall(r'"(\w+)" if resolving', source))
    assert len(reasons) > 8
    assert [reason for reason in reasons if f"`{reason}`" not in TEXT] == []
