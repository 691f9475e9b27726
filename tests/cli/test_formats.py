"""Streams of other formats than plain JSON, from validate to run and back after a kill."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import threading
from collections import Counter
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest

from streamproc.cli.compose import open_log
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from tests.cli.conftest import Cli, finish

CHANGES = """\
pipeline: accounts
streams:
  changes:
    format: debezium
    id: change
    event_time: at
    fields:
      change: {type: int64, from: __source_lsn}
      account: {type: string, from: account_id}
      op: {type: string, from: __op}
      email: string
      old_email: {type: string, from: __before_email}
      balance: {type: decimal(2), encoding: unscaled}
      at: {type: timestamp, from: __source_ts_ms}
partition_by: account
features:
  minutes_since_last: hours_since(previous(at)) * 60
  changes_1h: {count: "*", over: 1h}
rules:
  - {id: taken_over, when: "op = 'u' and email <> old_email and minutes_since_last < 30", then: review}
  - {id: closed, when: op = 'd', then: review}
decision: {severity: [review, approve], otherwise: approve, include: [op, balance, minutes_since_last, changes_1h]}
"""
START = 1_750_000_000_000


def change(number: int, account: str, op: str, email: str | None, old: str | None, minute: int) -> bytes:
    """As Debezium's PostgreSQL connector writes it; the balance is 12.34."""
    row = {"account_id": account, "email": email, "balance": "BNI=", "phone": "added later"}
    before = {"account_id": account, "email": old, "balance": "BNI="} if op in "ud" else None
    source = {"connector": "postgresql", "ts_ms": START + minute * 60_000, "lsn": number, "table": "accounts"}
    event = {"before": before, "after": None if op == "d" else row, "source": source, "op": op, "ts_ms": START}
    return json.dumps(event).encode()


EVENTS = [
    change(1, "a", "r", "a@x", None, 0),
    change(2, "b", "c", "b@x", None, 1),
    change(3, "a", "u", "new@x", "a@x", 10),
    change(4, "b", "u", "b@x", "b@x", 20),
    change(5, "a", "d", None, "new@x", 50),
    change(6, "c", "c", "c@x", None, 51),
]
EXPECTED = {
    "1": ("approve", "r", 12.34, None, 1),
    "2": ("approve", "c", 12.34, None, 1),
    "3": ("review", "u", 12.34, 10.0, 2),
    "4": ("approve", "u", 12.34, 19.0, 2),
    "5": ("review", "d", 12.34, 40.0, 3),
    "6": ("approve", "c", 12.34, None, 1),
}
SHOWN = ("decision", "op", "balance", "minutes_since_last", "changes_1h")


def shown(row: dict[str, Any]) -> tuple[Any, ...]:
    values = [row[name] for name in SHOWN]
    return tuple(float(value) if isinstance(value, Decimal) else value for value in values)


def decided(cli: Cli, pipeline: Path, log: str, id_name: str = "change") -> dict[str, tuple[Any, ...]]:
    lines = cli("tail", "decisions", "--pipeline", pipeline, "--log", log, "--until-end").lines
    rows = [json.loads(line) for line in lines]
    assert len({row[id_name] for row in rows}) == len(rows)
    return {str(row[id_name]): shown(row) for row in rows}


async def append(log_url: str, topic: str, values: list[bytes | None]) -> None:
    log = open_log(log_url)
    await log.admin().ensure_topics([TopicSpec(topic, 1)])
    appender = log.appender()
    now = SystemClock().now_ms()
    await appender.append([OutputRecords(TopicPartition(topic, 0), [b"k"] * len(values), values, now)])
    await appender.close()
    await log.close()


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.yaml"
    path.write_text(CHANGES)
    return path


def test_change_events_are_fed_decided_and_tested(cli: Cli, changes: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    events.write_bytes(b"\n".join([*EVENTS, b'{"op":"c","after":{"account_id":"z"}}', b'{"op":"x"}']) + b"\n")
    checked = cli("validate", changes)
    assert checked.code == 0
    assert "7 fields of debezium" in checked.err + checked.out
    log = f"file:{tmp_path}/log"
    assert cli("feed", "changes", events, "--pipeline", changes, "--log", log).code == 0
    ran = finish("run", changes, "--log", log, "--until-end")
    assert ran.code == 0, ran.err
    assert decided(cli, changes, log) == EXPECTED
    letters = cli("tail", "dead_letters", "--pipeline", changes, "--log", log, "--until-end").lines
    assert Counter(json.loads(line)["reason"] for line in letters) == {"missing_id": 1, "unknown_op": 1}

    output = tmp_path / "o.parquet"
    assert cli("backtest", changes, "--input", events, "--output", output).code == 0
    rows = pq.read_table(output).to_pylist()
    assert {str(row["change"]): shown(row) for row in rows} == EXPECTED


def test_tombstones_leave_no_trace_and_no_replay_stumbles_over_them(cli: Cli, changes: Path, tmp_path: Path) -> None:
    changes.write_text(CHANGES + "partitions: 1\n")
    log, state = f"file:{tmp_path}/log", tmp_path / "log" / "state"
    parts: list[list[bytes | None]] = [[None, EVENTS[0], None, EVENTS[1]], [None], [EVENTS[2], None, None]]
    for part in parts:  # a transaction each: the last one is replayed otherwise than those before it
        asyncio.run(append(log, "accounts.changes", part))
        assert finish("run", changes, "--log", log, "--until-end").code == 0
    assert decided(cli, changes, log) == {name: row for name, row in EXPECTED.items() if name in "123"}

    shutil.rmtree(state)  # all of it is replayed now, silently
    asyncio.run(append(log, "accounts.changes", [EVENTS[3], None, *EVENTS[4:], None]))
    ran = finish("run", changes, "--log", log, "--until-end")
    assert ran.code == 0, ran.err
    assert decided(cli, changes, log) == EXPECTED
    assert cli("tail", "dead_letters", "--pipeline", changes, "--log", log, "--until-end").lines == []


def test_tombstones_are_no_undecided_records_for_repartition(cli: Cli, changes: Path, tmp_path: Path) -> None:
    changes.write_text(CHANGES + "partitions: 1\n")
    log, state = f"file:{tmp_path}/log", tmp_path / "log" / "state"
    parts: list[list[bytes | None]] = [[*EVENTS[:2], None], [None, None]]
    for part in parts:
        asyncio.run(append(log, "accounts.changes", part))
        assert finish("run", changes, "--log", log, "--until-end").code == 0
    new = tmp_path / "new.yaml"
    new.write_text((CHANGES + "partitions: 2\n").replace("pipeline: accounts", "pipeline: accounts-2"))
    moved = cli("repartition", changes, "--to", new, "--log", log, "--state", state)
    assert moved.code == 0, moved.err


def test_nothing_but_tombstones_ends(cli: Cli, changes: Path, tmp_path: Path) -> None:
    changes.write_text(CHANGES + "partitions: 1\n")
    log = f"file:{tmp_path}/log"
    asyncio.run(append(log, "accounts.changes", [None] * 5))
    assert finish("run", changes, "--log", log, "--until-end").code == 0
    assert decided(cli, changes, log) == {}


@pytest.mark.parametrize(("name", "kind"), [("a.csv", "debezium"), ("a.parquet", "debezium"), ("a.ndjson", "avro")])
def test_files_of_another_kind_are_refused(cli: Cli, changes: Path, tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"x\n")
    if kind == "avro":
        changes.write_text(PAYMENTS)
    outcome = cli("backtest", changes, "--input", tmp_path / name, "--output", tmp_path / "o.parquet")
    assert outcome.code == 2
    right = ".ndjson" if kind == "debezium" else ".avro"
    assert (
        outcome.err == f"error: {tmp_path}/{name}: the file's kind is none of a stream of format {kind} (use {right})\n"
    )


PAYMENTS = """\
pipeline: shop
streams:
  payments:
    format: avro
    registry: file:schemas
    id: payment
    event_time: at
    fields:
      payment: string
      card: string
      amount: {type: decimal(2), required: true}
      channel: string
      at: timestamp
partition_by: card
features:
  spend: {of: amount, aggregates: [count, sum], over: [1h]}
rules:
  - {id: many, when: spend_count_1h >= 2, then: decline}
decision: {severity: [decline, approve], otherwise: approve, include: [amount, channel, spend_sum_1h]}
"""
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
OLD = {
    "type": "record", "name": "Payment", "fields": [
        {"name": "payment", "type": "string"}, {"name": "card", "type": "string"}, {"name": "amount", "type": MONEY},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}  # fmt: skip
NEW = {
    "type": "record", "name": "Payment", "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "payment", "type": "string"}, {"name": "card", "type": ["null", "string"]},
        {"name": "amount", "type": ["null", {**MONEY, "scale": 4}]},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["pos", "web"]}},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}  # fmt: skip
OLDER = [{"payment": f"p{i}", "card": f"c{i % 2}", "amount": Decimal("12.34"), "at": START + i} for i in range(4)]
NEWER = [
    {"payment": f"p{i}", "card": f"c{i % 2}", "amount": Decimal("0.50"), "channel": "web", "at": (START + i) * 1000 + 7}
    for i in range(4, 6)
]
BOUGHT = {
    "p0": ("approve", 12.34, None, 12.34), "p1": ("approve", 12.34, None, 12.34),
    "p2": ("decline", 12.34, None, 24.68), "p3": ("decline", 12.34, None, 24.68),
    "p4": ("decline", 0.5, "web", 25.18), "p5": ("decline", 0.5, "web", 25.18),
}  # fmt: skip


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    """A pipeline, its schemas, and a file of each."""
    (tmp_path / "schemas").mkdir()
    for number, schema, records in ((1, OLD, OLDER), (2, NEW, NEWER)):
        (tmp_path / "schemas" / f"{number}.avsc").write_text(json.dumps(schema))
        with open(tmp_path / f"{number}.avro", "wb") as file:
            fastavro.writer(file, schema, records)
    path = tmp_path / "shop.yaml"
    path.write_text(PAYMENTS)
    return path


def bought(row: dict[str, Any]) -> tuple[Any, ...]:
    values = [row[name] for name in ("decision", "amount", "channel", "spend_sum_1h")]
    return tuple(float(value) if isinstance(value, Decimal) else value for value in values)


def test_avro_records_are_fed_decided_and_tested(cli: Cli, payments: Path, tmp_path: Path) -> None:
    files = [tmp_path / "1.avro", tmp_path / "2.avro"]
    assert cli("validate", payments).code == 0
    log = f"file:{tmp_path}/log"
    fed = cli("feed", "payments", *files, "--pipeline", payments, "--log", log)
    assert fed.code == 0, fed.err
    ran = finish("run", payments, "--log", log, "--until-end")
    assert ran.code == 0, ran.err
    lines = cli("tail", "decisions", "--pipeline", payments, "--log", log, "--until-end").lines
    assert {json.loads(line)["payment"]: bought(json.loads(line)) for line in lines} == BOUGHT

    output = tmp_path / "o.parquet"
    tested = cli("backtest", payments, "--input", *files, "--output", output)
    assert tested.code == 0, tested.err
    assert {row["payment"]: bought(row) for row in pq.read_table(output).to_pylist()} == BOUGHT


def test_a_broken_avro_record_fails_alone_and_is_replayed(cli: Cli, payments: Path, tmp_path: Path) -> None:
    payments.write_text(PAYMENTS + "partitions: 1\n")
    log = f"file:{tmp_path}/log"

    def wire(number: int, schema: dict[str, Any], record: dict[str, Any]) -> bytes:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema), record)
        return b"\0" + number.to_bytes(4, "big") + body.getvalue()

    good = [wire(1, OLD, record) for record in OLDER] + [wire(2, NEW, record) for record in NEWER]
    bad: list[bytes | None] = [good[0][:-3], b"{}", None, b"\0\0\0\0\x63" + good[0][5:]]
    asyncio.run(append(log, "shop.payments", [*good[:3], *bad, good[3]]))
    assert finish("run", payments, "--log", log, "--until-end").code == 0
    shutil.rmtree(tmp_path / "log" / "state")
    asyncio.run(append(log, "shop.payments", [None, *good[4:]]))
    ran = finish("run", payments, "--log", log, "--until-end")
    assert ran.code == 0, ran.err
    lines = cli("tail", "decisions", "--pipeline", payments, "--log", log, "--until-end").lines
    assert {json.loads(line)["payment"]: bought(json.loads(line)) for line in lines} == BOUGHT
    letters = cli("tail", "dead_letters", "--pipeline", payments, "--log", log, "--until-end").lines
    assert [json.loads(line)["reason"] for line in letters] == ["broken_avro", "not_avro", "unknown_schema"]


def test_a_file_whose_schema_nobody_registered_is_refused(cli: Cli, payments: Path, tmp_path: Path) -> None:
    (tmp_path / "schemas" / "1.avsc").unlink()
    outcome = cli("backtest", payments, "--input", tmp_path / "1.avro", "--output", tmp_path / "o.parquet")
    assert outcome.code == 2
    said = "the registry does not have the file's schema (register it, as shop.payments-value)"
    assert outcome.err.endswith(f"error: {tmp_path}/1.avro: {said}\n")


def test_a_stream_without_a_registry_is_refused(payments: Path, tmp_path: Path) -> None:
    payments.write_text(PAYMENTS.replace("    registry: file:schemas\n", ""))
    outcome = finish("run", payments, "--log", f"file:{tmp_path}/log", "--until-end")
    assert outcome.code == 2
    assert "stream payments: format avro needs a schema registry (set STREAMPROC_REGISTRY, or" in outcome.err


def test_damaged_files_are_refused(cli: Cli, payments: Path, tmp_path: Path) -> None:
    whole = (tmp_path / "1.avro").read_bytes()
    for content in (b"", b"Obj\x01", whole[:-20], whole[:60] + b"\xff" * 40 + whole[100:]):
        (tmp_path / "1.avro").write_bytes(content)
        outcome = cli("backtest", payments, "--input", tmp_path / "1.avro", "--output", tmp_path / "o.parquet")
        assert outcome.code == 2
        assert "Traceback" not in outcome.err


class Registry:
    """A schema registry that is down for its first answers."""

    def __init__(self, down: int) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                schema = {"/schemas/ids/1": OLD, "/schemas/ids/2": NEW}.get(self.path)
                status = 503 if len(outer.asked) <= down else 200 if schema else 404
                body = json.dumps({"schema": json.dumps(schema)}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_records_wait_for_a_registry_that_is_down(
    cli: Cli, payments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven answers are missing: two polls fail, the third one brings the records; none became a dead letter."""
    log = f"file:{tmp_path}/log"
    files = [tmp_path / "1.avro", tmp_path / "2.avro"]
    assert cli("feed", "payments", *files, "--pipeline", payments, "--log", log).code == 0
    registry = Registry(down=7)
    monkeypatch.setenv("STREAMPROC_REGISTRY", f"http://{registry.address}")
    ran = finish("run", payments, "--log", log, "--until-end")
    registry.close()
    assert ran.code == 0, ran.err
    assert f"the schema registry at {registry.address} answers with status 503" in ran.err
    lines = cli("tail", "decisions", "--pipeline", payments, "--log", log, "--until-end").lines
    assert {json.loads(line)["payment"]: bought(json.loads(line)) for line in lines} == BOUGHT
    assert cli("tail", "dead_letters", "--pipeline", payments, "--log", log, "--until-end").lines == []
    assert set(registry.asked) == {"/schemas/ids/1", "/schemas/ids/2"}
    assert len(registry.asked) == 9
