"""`table show` on tables of all sorts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import PIPELINE, Cli
from tests.docs.test_tables import files

TABLES = """\
partition_by: card
tables:
  nets: {key: network, file: nets.csv, columns: {network: cidr}}
  limits: {key: amount, file: limits.csv, columns: {amount: decimal(2), top: decimal(2), hot: bool}}
  none: {key: id, file: none.csv}
"""
NETS = """\
network,valid_from,expires,added_by,reason,note
10.0.0.0/8,,,ana,office of a customer,x
10.1.0.0/16,,2026-05-01T00:00:00Z,ben,,x
10.1.0.0/16,2026-06-01T00:00:00Z,,ben,"again,
in two lines",x
10.1.2.0/24,2026-07-01T00:00:00Z,,eva,,x
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "nets.csv").write_text(NETS)
    (tmp_path / "limits.csv").write_text("amount,top,hot\n1.5,30,true\n2,,\n")
    (tmp_path / "none.csv").write_text("id\n")
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE.replace("partition_by: card\n", TABLES))
    return path


def states(cli: Cli, *arguments: object) -> tuple[int, list[tuple[str, str]]]:
    outcome = cli("table", "show", *arguments, "--json")
    assert outcome.out.count("\n") == 1
    told: dict[str, Any] = json.loads(outcome.out)
    assert told["found"] == (outcome.code == 0 and len(arguments) > 4)
    return outcome.code, [(row["columns"]["network"], row["state"]) for row in told["rows"]]


@pytest.mark.parametrize(
    ("time", "rows"),
    [
        ("2026-04-30T23:59:59.999Z", ["holds", "later", "wider"]),
        ("2026-05-01T00:00:00Z", ["expired", "later", "holds"]),
        ("1780272000000", ["expired", "holds", "wider"]),  # 2026-06-01T00:00:00Z
    ],
)
def test_a_key_shows_what_counts_at_a_time(cli: Cli, shop: Path, time: str, rows: list[str]) -> None:
    names = ["10.1.0.0/16", "10.1.0.0/16", "10.0.0.0/8"]
    assert states(cli, shop, "nets", "--at", time, "10.1.9.9") == (0, list(zip(names, rows, strict=True)))


def test_all_rows_in_the_order_of_the_file(cli: Cli, shop: Path) -> None:
    networks = ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16", "10.1.2.0/24"]
    found = states(cli, shop, "nets", "--at", "2026-05-01T00:00:00Z")
    assert found == (0, list(zip(networks, ["holds", "expired", "later", "later"], strict=True)))


def test_who_and_why_are_shown_and_comments_are_not(cli: Cli, shop: Path) -> None:
    outcome = cli("table", "show", shop, "nets", "10.1.0.1", "--at", "2026-04-01T00:00:00Z")
    header, *rows = [line.split() for line in outcome.lines]
    assert header == ["state", "network", "valid_from", "expires", "added_by", "reason"]
    assert rows[0] == ["holds", "10.1.0.0/16", "-", "2026-05-01T00:00:00.000Z", "ben", "-"]
    assert rows[1] == ["later", "10.1.0.0/16", "2026-06-01T00:00:00.000Z", "-", "ben", "again,", "in", "two", "lines"]
    assert rows[2] == ["wider", "10.0.0.0/8", "-", "-", "ana", "office", "of", "a", "customer"]
    assert outcome.err == ""


def test_keys_and_values_of_other_types(cli: Cli, shop: Path) -> None:
    outcome = cli("table", "show", shop, "limits", "1.50")
    assert [line.split() for line in outcome.lines] == [
        ["state", "amount", "top", "hot"], ["holds", "1.50", "30.00", "true"],
    ]  # fmt: skip
    shown = json.loads(cli("table", "show", shop, "limits", "2.00", "--json").out)
    assert shown["rows"] == [{"state": "holds", "columns": {"amount": 2.0, "top": None, "hot": None}}]


def test_a_key_that_finds_nothing(cli: Cli, shop: Path) -> None:
    for key in ("192.168.0.1", "no address"):
        outcome = cli("table", "show", shop, "nets", key)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err == "the table nets has no row for this key that holds\n"
    outcome = cli("table", "show", shop, "none")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "the table none is empty\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("net",), "has no table 'net' (did you mean nets?)"),
        (("limits", "many"), "error: KEY is not decimal(2)"),
        (("limits", ""), "error: KEY is empty"),
        (("nets", "--at", "soon"), "error: --at: 'soon' is no time (2026-05-03T10:00:00Z, or ms since 1970)"),
    ],
)
def test_wrong_use(cli: Cli, shop: Path, arguments: tuple[str, ...], error: str) -> None:
    outcome = cli("table", "show", shop, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.removesuffix("\n").endswith(error)


def test_a_wrong_file(cli: Cli, shop: Path) -> None:
    (shop.parent / "nets.csv").write_text("network\n10.0.0.1/8\n")
    outcome = cli("table", "show", shop, "nets")
    assert outcome.code == 2
    assert "nets.csv:2:1: a value of network is not cidr" in outcome.err


def test_a_log_that_is_not_there_is_refused_and_not_made(cli: Cli, shop: Path) -> None:
    shop.write_text(shop.read_text().replace("file: nets.csv,", "file: nets.csv, topic: nets,"))
    outcome = cli("table", "show", shop, "nets", "--log", f"file:{shop.parent / 'typo'}")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: --log: there is no event log in {shop.parent / 'typo'} (")
    assert not (shop.parent / "typo").exists()


@pytest.mark.timeout(120)
def test_a_run_and_a_backtest_look_the_same_up(cli: Cli, tmp_path: Path) -> None:
    """The example of docs/language/tables.md, whose backtest is checked there, through an event log."""
    files(tmp_path)
    shop, log = tmp_path / "shop.yaml", f"file:{tmp_path}/log"
    counted = "features:\n  listed: {count: '*', over: 7d, where: ip in table(bad_networks)}\n"
    shop.write_text(shop.read_text().replace("features:\n", counted))
    payments, decided = tmp_path / "payments.csv", tmp_path / "decided.parquet"
    assert cli("backtest", shop, "--input", payments, "--output", decided).code == 0
    assert cli("feed", "payments", payments, "--pipeline", shop, "--log", log).code == 0
    assert cli("run", shop, "--log", log, "--until-end").code == 0
    lines = cli("tail", "features", "--pipeline", shop, "--log", log, "--until-end").lines
    ran = {row["payment_id"]: row for row in map(json.loads, lines)}
    names = ("issuer", "bad_network", "listed_by", "listed_why", "listed")
    tested = {row["payment_id"]: row for row in pq.read_table(decided).to_pylist()}
    assert [tested[f"p{n}"]["listed"] for n in range(1, 8)] == [0, 0, 1, 2, 1, 1, 1]
    assert {key: [row[n] for n in names] for key, row in ran.items()} == {
        key: [row[n] for n in names] for key, row in tested.items()
    }
