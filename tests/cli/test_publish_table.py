"""Tables from topics: published, looked up by workers that run, kept over kills and restores."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import Headers, OutputRecords, TopicPartition
from streamproc.runtime.journal import decode_entry
from tests.cli.conftest import BOTH, Cli, finish, journal, start

PIPELINE = """\
pipeline: NAME
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, ip: string, bin: string, at: timestamp}
partition_by: card
partitions: 2
tables:
  networks: {key: network, file: networks.csv, topic: NAME.networks, columns: {network: cidr}}
  bins: {key: bin, file: bins.ndjson, topic: NAME.bins, columns: {bin: prefix, top: decimal(2)}}
features:
  seen_1h: {count: "*", over: 1h}
  listed_by: table(networks, ip).added_by
  why: table(networks, ip).reason
  top: table(bins, bin).top
rules:
  - {id: network, when: ip in table(networks), then: decline}
decision: {severity: [decline, approve], otherwise: approve, include: [listed_by, why, top, seen_1h]}
"""
NETWORKS = "network,expires,added_by\n10.0.0.0/8,,ana\n10.1.0.0/16,1970-01-01T00:00:01Z,\n2001:DB8::/32,,\n"
BINS = '{"bin": "4", "top": 10.5}\n{"bin": "4571", "top": "99.00", "added_by": "ben"}\n'

Url = Callable[[], str]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "networks.csv").write_text(NETWORKS)
    (tmp_path / "bins.ndjson").write_text(BINS)
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE.replace("NAME", f"shop-{secrets.token_hex(4)}"))
    return path


def publish(cli: Cli, shop: Path, log: str, table: str, *more: object) -> tuple[int, int, int, int]:
    """How many were added, changed, removed and left."""
    done = cli("publish-table", table, *more, "--pipeline", shop, "--log", log, "--by", "eva", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    return told["added"], told["changed"], told["removed"], told["equal"]


def feed(cli: Cli, shop: Path, log: str, first: int, *ips: str) -> None:
    rows = [
        {"id": f"p{first + n}", "card": f"c{n % 5}", "ip": ip, "bin": "45719", "at": 500 + n}
        for n, ip in enumerate(ips)
    ]
    file = shop.parent / "in.ndjson"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("feed", "payments", file, "--pipeline", shop, "--log", log).code == 0


def decided(cli: Cli, shop: Path, log: str) -> dict[str, dict[str, Any]]:
    done = cli("tail", "decisions", "--pipeline", shop, "--log", log, "--from-start", "--until-end")
    rows = [json.loads(line) for line in done.lines]
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def run(shop: Path, log: str, *more: object) -> str:
    done = finish("run", shop, "--log", log, "--state", shop.parent / "state", "--until-end", *more)
    assert done.code == 0, done.err
    return done.err


def name_of(shop: Path) -> str:
    return shop.read_text().splitlines()[0].removeprefix("pipeline: ")


def journaled(log: str, name: str) -> set[tuple[tuple[str, int], ...]]:
    """The versions of tables that the journal names."""
    return {decode_entry(headers)[0].tables for headers, _ in journal(log, name, 2)}


def records(log: str, topic: str) -> list[tuple[bytes | None, bytes | None, Headers]]:
    async def read() -> list[tuple[bytes | None, bytes | None, Headers]]:
        opened, found = open_log(log), list[tuple[bytes | None, bytes | None, Headers]]()
        scanner, tp = opened.scanner(), TopicPartition(topic, 0)
        end = (await opened.admin().end_offsets([tp]))[tp]
        scanner.seek(tp, 0)
        while scanner.position(tp) < end:
            for chunk in await scanner.poll(100):
                assert chunk.headers is not None
                found += zip(chunk.keys, chunk.values, chunk.headers, strict=True)
        await scanner.close()
        await opened.close()
        return found

    return run_async(read())


def append(log: str, topic: str, key: bytes, value: bytes) -> None:
    async def send() -> None:
        opened = open_log(log)
        appender = opened.appender()
        await appender.append([OutputRecords(TopicPartition(topic, 0), [key], [value], 1)])
        await appender.close()
        await opened.close()

    run_async(send())


@BOTH
@pytest.mark.timeout(180)
def test_decisions_follow_what_is_published(cli: Cli, shop: Path, log: str) -> None:
    name = name_of(shop)
    assert publish(cli, shop, log, "networks", "--dry-run") == (3, 0, 0, 0)
    assert publish(cli, shop, log, "networks", "--why", "first") == (3, 0, 0, 0)
    assert publish(cli, shop, log, "networks", "--why", "again") == (0, 0, 0, 3)
    assert publish(cli, shop, log, "bins") == (2, 0, 0, 0)
    ips = ("10.1.2.3", "10.9.9.9", "11.0.0.1", "2001:db8::5", "none")
    feed(cli, shop, log, 0, *ips)
    run(shop, log, "--workers", 2)
    found = decided(cli, shop, log)
    assert [(found[f"p{n}"]["decision"], found[f"p{n}"]["listed_by"], found[f"p{n}"]["why"]) for n in range(5)] == [
        ("decline", "eva", "first"), ("decline", "ana", "first"), ("approve", None, None),
        ("decline", "eva", "first"), ("approve", None, None),
    ]  # fmt: skip
    assert {str(row["top"]) for row in found.values()} == {"99.0"}

    (shop.parent / "networks.csv").write_text("network,added_by\n10.1.0.0/16,ben\n11.0.0.0/8,\n2001:db8::/32,\n")
    assert publish(cli, shop, log, "networks", "--why", "second") == (1, 1, 1, 1)
    (shop.parent / "fewer.csv").write_text("bin,top\n4,10.50\n")
    assert publish(cli, shop, log, "bins", shop.parent / "fewer.csv") == (0, 0, 1, 1)
    key, value, headers = records(log, f"{name}.networks")[-1]
    assert (key, value) == (b"10.0.0.0/8", None)  # who removed it, when and why
    assert {name: text for name, text in headers if name != "at"} == {"by": b"eva", "why": b"second"}
    shutil.rmtree(shop.parent / "state")  # replayed
    feed(cli, shop, log, 5, *ips)
    assert "come out otherwise" not in run(shop, log)  # other tables are no reason to say so
    later = decided(cli, shop, log)
    assert {key: later[key] for key in found} == found
    assert [(later[f"p{n}"]["decision"], later[f"p{n}"]["listed_by"], later[f"p{n}"]["why"]) for n in range(5, 10)] == [
        ("decline", "ben", "second"), ("approve", None, None), ("decline", "eva", "second"),
        ("decline", "eva", "first"), ("approve", None, None),
    ]  # fmt: skip
    assert {str(row["top"]) for key, row in later.items() if key not in found} == {"10.5"}
    versions = [dict(one) for one in journaled(log, name)]
    assert len(versions) == 2
    for topic in (f"{name}.networks", f"{name}.bins"):
        assert len({one[topic] for one in versions}) == 2


def wait_for(process: subprocess.Popen[str], cli: Cli, shop: Path, log: str, key: str) -> dict[str, Any]:
    while (found := decided(cli, shop, log).get(key)) is None:
        assert process.poll() is None
        time.sleep(0.05)
    return found


@BOTH
@pytest.mark.timeout(240)
def test_workers_that_run_follow_and_a_kill_brings_nothing_back(cli: Cli, shop: Path, log: str) -> None:
    publish(cli, shop, log, "networks")
    options = ["run", shop, "--log", log, "--state", shop.parent / "state", "--workers", 2]
    process = start(*options)
    try:
        feed(cli, shop, log, 0, *["10.9.9.9"] * 10)
        assert wait_for(process, cli, shop, log, "p9")["decision"] == "decline"
        (shop.parent / "networks.csv").write_text("network\n12.0.0.0/8\n")
        publish(cli, shop, log, "networks")
        at, answer = 10, "decline"
        while answer == "decline":  # until the running workers have seen it
            feed(cli, shop, log, at, *["10.9.9.9"] * 5)
            answers = {wait_for(process, cli, shop, log, f"p{at + n}")["decision"] for n in range(5)}
            answer = "decline" if "decline" in answers else "approve"
            at += 5
        process.kill()
        process.communicate()
        shutil.rmtree(shop.parent / "state")
        process = start(*options)
        feed(cli, shop, log, at, *["10.9.9.9", "12.1.1.1"] * 5)
        for n in range(10):
            wait_for(process, cli, shop, log, f"p{at + n}")
    finally:
        process.terminate()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    found = decided(cli, shop, log)
    assert [found[f"p{at + n}"]["decision"] for n in range(10)] == ["approve", "decline"] * 5
    assert len(found) == at + 10
    assert max(row["seen_1h"] for row in found.values()) == (at + 10) // 5


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_record_that_is_none_of_the_tables_changes_nothing(cli: Cli, shop: Path, log: str) -> None:
    publish(cli, shop, log, "networks")
    topic = f"{name_of(shop)}.networks"
    append(log, topic, b"10.0.0.0/8", b'{"added_by": 5, "expires": "secret"}')
    append(log, topic, b"10.0.0.7/8", b"{}")
    append(log, topic, b"13.0.0.0/8", b'{"network": "13.0.0.0/8", "reason": "by another program", "more": 1}')
    feed(cli, shop, log, 0, "10.9.9.9", "13.1.1.1")
    said = run(shop, log)
    assert "records of a table are refused" in said
    assert "offset 3: a value of expires is not timestamp" in said
    assert "secret" not in said
    found = decided(cli, shop, log)
    assert (found["p0"]["listed_by"], found["p1"]["why"]) == ("ana", "by another program")
    done = cli("table", "show", shop, "networks", "13.7.7.7", "--log", log, "--json")
    assert "secret" not in done.err
    assert done.err.splitlines()[0] == "refused: offset 3: a value of expires is not timestamp"
    (row,) = json.loads(done.out)["rows"]
    assert (row["state"], row["columns"]["network"], row["columns"]["reason"]) == (
        "holds", "13.0.0.0/8", "by another program",
    )  # fmt: skip


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_what_publish_table_refuses(cli: Cli, shop: Path, log: str, tmp_path: Path) -> None:
    shared = ("--pipeline", shop, "--log", log)

    def refused(*arguments: object) -> str:
        done = cli("publish-table", *arguments, *shared)
        assert done.code == 2
        return done.err.strip().removeprefix("error: ")

    assert refused("network").endswith("has no table 'network' (did you mean networks?)")
    assert refused("networks", "no.csv") == "no.csv: table networks: there is no file no.csv"
    (tmp_path / "bad.ndjson").write_text('{"bin": "4", "top": 1}\n{"bin": "5", "top": [1]}\n{"bin": \n')
    assert refused("bins", tmp_path / "bad.ndjson").splitlines() == [
        f"{tmp_path}/bad.ndjson:2:1: top is neither a text, a number, true, false nor null",
        f"error: {tmp_path}/bad.ndjson:3:8: this is no JSON: Expecting value",
    ]
    (tmp_path / "bad.csv").write_text("network\n10.0.0.1/8\n")
    assert refused("networks", tmp_path / "bad.csv").startswith(f"{tmp_path}/bad.csv:2:1: a value of network is not")
    shop.write_text(shop.read_text().replace(f", topic: {name_of(shop)}.bins", ""))
    place = next(n for n, line in enumerate(shop.read_text().splitlines(), 1) if "bins.ndjson" in line)
    assert f"shop.yaml:{place}:" in refused("bins")
    assert "table bins has no topic" in refused("bins")


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_file_without_rows_removes_all_only_if_that_is_allowed(
    cli: Cli, shop: Path, log: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("network,expires\n")
    assert publish(cli, shop, log, "networks", tmp_path / "empty.csv") == (0, 0, 0, 0)  # it has none yet
    publish(cli, shop, log, "networks")
    for more in ([], ["--dry-run"]):
        done = cli("publish-table", "networks", tmp_path / "empty.csv", *more, "--pipeline", shop, "--log", log)
        assert done.code == 2
        assert "table networks: the file has no rows, and would remove all 3 keys" in done.err
        assert "--allow-empty" in done.err
    assert publish(cli, shop, log, "networks") == (0, 0, 0, 3)
    assert publish(cli, shop, log, "networks", tmp_path / "empty.csv", "--allow-empty", "--dry-run") == (0, 0, 3, 0)
    assert publish(cli, shop, log, "networks", tmp_path / "empty.csv", "--allow-empty") == (0, 0, 3, 0)


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_dry_run_makes_no_log(cli: Cli, shop: Path, log: str) -> None:
    assert publish(cli, shop, log, "networks", "--dry-run") == (3, 0, 0, 0)
    assert not (shop.parent / "log").exists()
    wrong = cli("publish-table", "networks", "--dry-run", "--pipeline", shop, "--log", "nowhere")
    assert (wrong.code, "names no event log" in wrong.err) == (2, True)


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_tables_topic_is_shown_by_its_full_name(cli: Cli, shop: Path, log: str) -> None:
    publish(cli, shop, log, "bins")
    (shop.parent / "fewer.csv").write_text("bin,top\n4,10.50\n")
    publish(cli, shop, log, "bins", shop.parent / "fewer.csv")
    done = cli("tail", f"{name_of(shop)}.bins", "--pipeline", shop, "--log", log, "--until-end")
    assert done.code == 0, done.err
    first, *_, last = map(json.loads, done.lines)
    assert (first["key"], first["rows"]["added_by"]) == ("4", "eva")
    assert last == {"key": "4571", "rows": None}
