"""Machine code is a matter of speed: with it and without, the shipped pipeline says the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from state.compiling import can_compile
from tests.cli.chain import finish

PIPELINE = Path(__file__).parents[2] / "configs" / "card_fraud" / "pipeline.yaml"


def decided(payments: Path, **environment: str) -> bytes:
    output = payments.with_name(f"decisions{len(environment)}.parquet")
    command = [
        sys.executable,
        "-m",
        "streamproc.cli.main",
        "backtest",
        PIPELINE,
        "--input",
        payments,
        "--output",
        output,
    ]
    subprocess.run(list(map(str, command)), check=True, env={**os.environ, **environment}, timeout=240)
    return output.read_bytes()


@pytest.mark.compiled
@pytest.mark.timeout(300)
def test_a_backtest_says_the_same_without_machine_code(tmp_path: Path) -> None:
    assert can_compile(), "make setup installs numba"
    payments = tmp_path / "transactions.ndjson"
    assert finish("generate", payments, "--events", 3000, "--seed", 11).code == 0
    assert decided(payments) == decided(payments, NUMBA_DISABLE_JIT="1")
