"""SQL statements of a pipeline on an embedded log, whose worker is killed again and again: their topics have what a
backtest writes, row by row and once; what surprises is said.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_supervision import children, running, shared, tail, until
from tests.sql.streaming import HEAD, pipeline
from tests.sql.support import Row, payments

STATEMENTS = {
    "large": "SELECT payment_id, card_id, amount FROM payments WHERE amount > 20000 OR merchant_country = 'US'",
    "velocity": """SELECT card_id, COUNT(*) AS n, SUM(amount) AS total, TUMBLE_END(event_time, INTERVAL '5' MINUTE) AS e
        FROM payments GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE) HAVING COUNT(*) > 1""",
    "risen": """SELECT card_id, a, b FROM payments MATCH_RECOGNIZE (PARTITION BY card_id ORDER BY event_time
        MEASURES A.payment_id AS a, B.payment_id AS b PATTERN (A B) DEFINE B AS B.items > A.items)""",
}
ROWS = 3000


def by_card(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Rows of each card in their order: cards lie in different partitions."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        found[row["card_id"]].append(json.dumps(row))
    return found


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(pipeline(HEAD.replace(", idle: 1m", ""), **STATEMENTS))
    rows = payments(ROWS)
    for row in rows:
        row["card_id"] = row["card_id"] or "c5"
        row["amount"] = None if row["amount"] is None else round(row["amount"], 2)
    (tmp_path / "payments.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(150)
def test_a_killed_worker_loses_no_row_and_writes_none_twice(cli: Cli, shop: Path) -> None:
    file = shop.parent / "payments.ndjson"
    assert cli("feed", "payments", file, *shared(shop)).code == 0
    process = running(shop)
    killed: set[int] = set()
    try:
        for _ in range(4):
            worker = until(lambda: [pid for pid in children(process) if pid not in killed])[0]
            killed.add(worker)
            time.sleep(0.7)
            os.kill(worker, signal.SIGKILL)
        until(lambda: sum(entry["records"] for entry in tail(cli, shop, "journal")) == ROWS, 60)
    finally:
        process.terminate()
        process.communicate(timeout=20)
    output = shop.parent / "b.parquet"
    assert cli("backtest", shop, "--input", file, "--output", output).code == 0
    for name in STATEMENTS:
        expected = [json.loads(line) for line in (shop.parent / f"b.{name}.ndjson").read_text().splitlines()]
        assert by_card(tail(cli, shop, name)) == by_card(expected)
        assert len(expected) > 50


@pytest.fixture
def few(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A pipeline of statements alone, a file for it, and where a backtest writes."""
    path, file = tmp_path / "few.yaml", tmp_path / "few.ndjson"
    path.write_text(pipeline(large=STATEMENTS["large"], never="SELECT payment_id FROM payments WHERE items > 1000000"))
    rows = [row | {"amount": 5, "merchant_country": "US" if n < 2 else "BE"} for n, row in enumerate(payments(5))]
    file.write_text("".join(json.dumps(row | {"card_id": "c"}) + "\n" for row in rows) + "no row\n")
    return path, file, tmp_path / "out.parquet"


def test_a_backtest_of_statements_alone_counts_their_rows(cli: Cli, few: tuple[Path, Path, Path]) -> None:
    """Nothing is decided: there are no decisions to count, and no table of them."""
    path, file, output = few
    outcome = cli("backtest", path, "--input", file, "--output", output)
    said = [line for line in outcome.err.splitlines() if not line.startswith("backtest:")]
    assert outcome.code == 0
    assert re.fullmatch(r"6 rows in [\d.]+ s \([\d,]+ a second\)", said[0])
    assert said[1:] == [
        f"rows of statements: large 2, never 0, listed in {output.with_suffix('.NAME.ndjson')}",
        f"dead letters: broken_json 1, listed in {output.with_suffix('.dead_letters.ndjson')}",
    ]
    assert not output.exists()
    assert len(output.with_suffix(".large.ndjson").read_text().splitlines()) == 2


def test_its_summary_names_no_decisions(cli: Cli, few: tuple[Path, Path, Path]) -> None:
    path, file, output = few
    said = json.loads(cli("backtest", path, "--input", file, "--output", output, "--json").out)
    assert (said["rows"], said["statements"], said["output"]) == (6, {"large": 2, "never": 0}, None)
    assert not {"decisions", "rules"} & said.keys()
    file.write_text("no row\n")
    assert cli("backtest", path, "--input", file, "--output", output).code == 1, "not one row could be read"


def test_a_report_of_nothing_decided_is_refused(cli: Cli, few: tuple[Path, Path, Path]) -> None:
    path, file, output = few
    refused = cli("backtest", path, "--input", file, "--output", output, "--report", output.with_suffix(".html"))
    assert (refused.code, "only has SQL statements" in refused.err) == (2, True)


def test_a_pattern_without_within_is_warned_of_once(cli: Cli, shop: Path) -> None:
    outcome = cli("validate", shop)
    assert outcome.code == 0
    assert outcome.err.count("MATCH_RECOGNIZE without WITHIN: what has begun waits until 7 days") == 1
    assert "shop.yaml:24:40:" in outcome.err
    assert "statement velocity: windows as they close (card_id, n, total, e) to shop.velocity" in outcome.out
