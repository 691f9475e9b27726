"""Generated payments with the columns that configs/detection reads: to try its pipelines, and to make their models.

    python -m benchmarks.detection.generated DIR [--days 120] [--payments 360000]

One file, `DIR/payments.parquet`, has the raw schema of the Handbook and that of Sparkov side by side; dates of birth
and sizes of cities are missing, as the generator has none. The same numbers make the same bytes. A payment's terminal
and card are the generator's, its category is the merchant's, its label says whether it was planted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from state.errors import ConfigError
from streamproc.services.generator import GeneratorOptions, generate
from streamproc.services.generator.places import MCCS
from streamproc.services.generator.rows import LEGITIMATE

FILE = "payments.parquet"
START_MS = 1_767_225_600_000  # 2026-01-01
DAYS, PAYMENTS, SEED = 120, 360_000, 1001
_A_DAY = 2  # payments of a card, about as many as the Handbook's customers make


def payments(days: int, count: int, seed: int = SEED) -> pa.Table:
    """`count` payments in the order of time.

    Raises:
        ConfigError: so few, or so many days, cannot be generated.
    """
    cards = max(1, count // (days * _A_DAY))
    traffic = generate(GeneratorOptions(events=count, seed=seed, cards=cards, days=days, start_ms=START_MS))
    rows, ids = traffic.rows, traffic.ids
    times = pa.array(rows.time, pa.timestamp("ms"))
    amounts = rows.cents / 100
    frauds = (rows.kind != LEGITIMATE).astype(np.int64)
    categories = np.array([mcc.code for mcc in MCCS])[traffic.world.merchant_mcc[rows.merchant]]
    handbook = {
        "TRANSACTION_ID": np.arange(count), "TX_DATETIME": times, "CUSTOMER_ID": rows.card,
        "TERMINAL_ID": rows.terminal, "TX_AMOUNT": amounts, "TX_FRAUD": frauds,
    }  # fmt: skip
    sparkov = {
        "trans_num": ids, "trans_dt": times, "card_id": rows.card, "merchant": np.char.mod("%d", rows.merchant),
        "category": categories, "amt": amounts, "dob": pa.nulls(count, pa.string()),
        "city_pop": pa.nulls(count, pa.int64()), "is_fraud": frauds,
    }  # fmt: skip
    return pa.table({**handbook, **sparkov})


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.detection.generated", description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="made if it is missing")
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--payments", type=int, default=PAYMENTS)
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args()
    try:
        made = payments(chosen.days, chosen.payments, chosen.seed)
        chosen.folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(made, chosen.folder / FILE)
    except (ConfigError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"{len(made):,} payments in {chosen.folder / FILE}\n")


if __name__ == "__main__":
    main()
