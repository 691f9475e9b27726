"""What a backtest's summary says of windows that are open at its end; the counts are by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: payment_id
    event_time: event_time
    fields: {{payment_id: string, card_id: string, amount: decimal(2), event_time: timestamp}}
partition_by: card_id
watermark: {{disorder: 1m{idle}}}
windows:
  hourly: {{tumble: 1h, of: amount, aggregates: [sum]}}
  rolling: {{hop: 2h, every: 1h, of: amount, aggregates: [sum]}}
  growing: {{cumulate: 3h, every: 1h}}
  visit: {{session: 30m, lateness: 2h}}
  ended: {{session: 5m, lateness: 9h, where: amount < 2}}
absences:
  quiet: {{after: amount > 0, without: amount < 0, within: 1h}}
sql:
  velocity: |
    SELECT card_id, COUNT(*) AS n, SUM(amount) AS total, COUNT(DISTINCT payment_id) AS ids FROM payments
    GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE)
"""
TIMES = ("10:10", "10:50", "12:05", "12:20")
OPEN = {
    "hourly": 1,  # 12:00 to 13:00
    "rolling": 2,  # from 11:00, and from 12:00
    "growing": 3,  # 12:00 to 13:00, 14:00, 15:00
    "visit": 1,  # 12:05 to 12:50
    "quiet": 2,  # since 12:05, since 12:20
    "velocity": 1,  # 12:20 to 12:25
}


@pytest.mark.blocking
@pytest.mark.parametrize(("idle", "still_open"), [("", OPEN), (", idle: 1m", {})])
def test_a_backtest_counts_what_is_open_at_its_end(
    cli: Cli, idle: str, still_open: dict[str, int], tmp_path: Path
) -> None:
    pipeline, rows, output = tmp_path / "shop.yaml", tmp_path / "payments.ndjson", tmp_path / "out.parquet"
    pipeline.write_text(PIPELINE.format(idle=idle))
    made = [
        {"payment_id": f"p{n}", "card_id": "c1", "amount": 1 if n == 0 else 5, "event_time": f"2026-05-01T{at}:00Z"}
        for n, at in enumerate(TIMES)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made))
    done = cli("backtest", pipeline, "--input", rows, "--output", output, "--json")
    assert json.loads(done.out)["open_windows"] == still_open, done.err
    done = cli("backtest", pipeline, "--input", rows, "--output", output)
    assert ("still open at the end, not told: hourly 1, rolling 2" in done.err) is bool(still_open)
