"""The sequence patterns of card_fraud against what the generator planted: found, missed, false alarms.

    python -m benchmarks.patterns_found [--events 60000] [--seed 42] [--fraud-share 0.05]

Generated payments and account events go through `backtest`; labels meet the decisions here only. An attack is found if
one of its payments has the rule's reason. The table is that of docs/card-fraud.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import yaml

from streamproc.services.generator import (
    GeneratorOptions,
    generate,
    write_account_events,
    write_labels,
    write_parquet,
)

PIPELINE = Path(__file__).parents[1] / "configs" / "card_fraud" / "pipeline.yaml"
START_MS = 1_767_225_600_000  # 2026-01-01
KIND_OF = {
    "tested_then_bought": "card_testing",
    "small_then_large": "small_then_large",
    "decline_probing": "decline_probing",
    "travel_then_fallback": "travel_then_fallback",
    "account_takeover": "account_takeover",
    "reset_then_transfer": "reset_then_transfer",
    "bust_out": "bust_out",
    "bin_enumeration": "bin_enumeration",
}
"""The pattern's rule, and the kind of fraud it is about."""


class Found(msgspec.Struct, frozen=True):
    """Attacks of the pattern's kind: `planted`, `found`; attacks of `others` that it hit; `false_alarms`: legitimate
    payments.
    """

    planted: int
    found: int
    others: int
    false_alarms: int


def count(options: GeneratorOptions, folder: Path) -> dict[str, Found]:
    """By pattern; files are left in `folder`."""
    labels, reasons = _decided(options, folder)
    rules = {rule["id"]: rule["reason"] for rule in yaml.safe_load(PIPELINE.read_text())["rules"]}
    attacks: dict[str, set[int]] = defaultdict(set)
    for kind, attack in labels.values():
        attacks[kind].add(attack)
    found = {}
    for rule, kind in KIND_OF.items():
        hit = [payment for payment, said in reasons.items() if rules[rule] in said]
        of = Counter({labels[payment] for payment in hit if payment in labels})
        mine = sum(1 for other, _ in of if other == kind)
        found[rule] = Found(len(attacks[kind]), mine, len(of) - mine, sum(1 for one in hit if one not in labels))
    return found


def _decided(options: GeneratorOptions, folder: Path) -> tuple[dict[str, tuple[str, int]], dict[str, list[str]]]:
    """By payment: its fraud and its attack, if it was planted; the reasons of its decision."""
    traffic = generate(options)
    payments, account, labels = (folder / f"{name}.parquet" for name in ("transactions", "account_events", "labels"))
    write_parquet(traffic, payments)
    write_account_events(traffic, account)
    write_labels(traffic, labels)
    output = folder / "decided.parquet"
    words = ["backtest", str(PIPELINE), "--input", str(payments), str(account), "--output", str(output)]
    subprocess.run([sys.executable, "-m", "streamproc.cli.main", *words], check=True, capture_output=True)
    planted = {row["transaction_id"]: (row["fraud"], row["attack"]) for row in pq.read_table(labels).to_pylist()}
    rows = pq.read_table(output, columns=["transaction_id", "reasons"]).to_pylist()
    return planted, {row["transaction_id"]: row["reasons"] for row in rows}


def table(found: dict[str, Found]) -> str:
    """As in the docs."""
    lines = ["| pattern | planted | found | other frauds it hits | false alarms |", "|---|---|---|---|---|"]
    for name, one in found.items():
        lines.append(f"| `{name}` | {one.planted} | {one.found} | {one.others} | {one.false_alarms} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the patterns of card_fraud find of planted frauds.")
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--fraud-share", type=float, default=0.05)
    chosen = parser.parse_args()
    options = GeneratorOptions(
        events=chosen.events, seed=chosen.seed, fraud_share=chosen.fraud_share, start_ms=START_MS
    )
    with tempfile.TemporaryDirectory() as directory:
        print(table(count(options, Path(directory))))


if __name__ == "__main__":
    main()
