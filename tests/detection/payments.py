"""Payments in the way of the Handbook's simulator, small: cards with a usual amount, three kinds of fraud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CARDS, TERMINALS, A_DAY = 150, 250, 3


def payments(days: int, *, seed: int = 7, start: str = "2024-03-01") -> dict[str, Any]:
    """Columns, in the order of time. Frauds: above 220; at a terminal for 14 days; at a card, five times the amount."""
    random = np.random.default_rng(seed)
    size = days * CARDS * A_DAY
    seconds = np.sort(random.integers(0, days * 86_400, size))
    card, terminal = random.integers(0, CARDS, size), random.integers(0, TERMINALS, size)
    usual = random.uniform(5, 100, CARDS)
    amount = np.abs(random.normal(usual[card], usual[card] / 2))
    day = seconds // 86_400
    scenario = np.where(amount > 220, 1, 0)
    for begin in range(days):
        hit = (terminal == random.integers(TERMINALS)) & (day >= begin) & (day < begin + 14)
        scenario[hit] = 2
        hit = (card == random.integers(CARDS)) & (day >= begin) & (day < begin + 7) & (random.random(size) < 1 / 3)
        amount[hit] *= 5
        scenario[hit] = 3
    return {
        "TRANSACTION_ID": np.arange(size),
        "TX_DATETIME": np.datetime64(start, "s") + seconds.astype("timedelta64[s]"),
        "CUSTOMER_ID": card,
        "TERMINAL_ID": terminal,
        "TX_AMOUNT": np.round(amount, 2),
        "TX_FRAUD": (scenario > 0).astype(np.int8),
        "TX_FRAUD_SCENARIO": scenario,
    }


def written(columns: dict[str, Any], folder: Path, name: str = "payments.parquet") -> Path:
    """The folder, with a file of them."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)
    return folder
