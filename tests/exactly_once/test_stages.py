"""Kills of a pipeline of two stages: what is committed in the end is what a backtest says, each row once."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.chain import NAMES, Row, backtested, chain, decided, fed, in_order, ndjson, ran, rows
from tests.exactly_once.one_kill import killed

pytestmark = pytest.mark.xdist_group("campaigns")  # one at a time: each wants the machine

COUNT = 3_000
PLACES = [
    "4:{later}:0", "produced:{later}:0", "6:{later}:0", "ending:{later}:0", "7:{later}:1", "flushing:{soon}:0",
    "8:{later}:0", "checkpointing:{soon}:0", "restoring:{soon}:0",
]  # fmt: skip
"""See hooks.py and transaction.py."""
SMALL = ("partitions: 4", "partitions: 3")


def under_fire(folder: Path, log: str, name: str, *, workers: int, kills: int) -> tuple[list[Row], list[Row]]:
    """What is decided, and what a backtest says. The input comes in pieces, one before each kill."""
    chance = random.Random(workers)
    pipeline, given = chain(folder, SMALL, name=name), rows(COUNT, repeats=100)
    given += roll_call(given)
    state = folder / "state"
    size = len(given) // (kills + 2)
    files = [ndjson(folder / f"{at}.ndjson", given[at : at + size]) for at in range(0, len(given), size)]
    fed(pipeline, log, files[0])
    ran(pipeline, log, state)  # partitions that never said how far they are may be out of step by a record
    options: list[object] = ["--log", log, "--state", state, "--instance", "pod", "--log-level", "warning"]
    options += ["--workers", workers, "--checkpoints", folder / "cp", "--checkpoint-seconds", 1]
    options += ["--until-end", pipeline]
    hits = 0
    for number, file in enumerate(files[1:-1]):
        fed(pipeline, log, file)
        place = PLACES[number % len(PLACES)].format(later=chance.randrange(1, 3), soon=1)
        hits += killed(folder, number, place, *options)
    assert hits > kills // 2
    fed(pipeline, log, files[-1])
    ran(pipeline, log, state, "--workers", workers)
    return decided(pipeline, log), backtested(pipeline, files, folder / "expected.parquet")


def roll_call(given: Sequence[Row]) -> list[Row]:
    """A payment of each card, in the end: its windows and what came before show the card's state."""
    at = max(row["At"] for row in given)
    cards = sorted({row["Card"] for row in given if row["Card"] is not None})
    return [
        {"Payment": f"call{card}", "Shop": "s1", "Card": card, "Amount": 1.0, "At": at + timedelta(minutes=5 * n)}
        for n, card in enumerate(cards, 1)
    ]


def assert_once(found: Sequence[Row], expected: Sequence[Row]) -> None:
    assert Counter(row["payment_id"] for row in found) == Counter(row["payment_id"] for row in expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_again_and_again_it_decides_what_a_backtest_says(tmp_path: Path) -> None:
    found, expected = under_fire(tmp_path, f"file:{tmp_path}/log", "chain", workers=1, kills=9)
    assert in_order(found) == in_order(expected)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_killed_again_and_again_on_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    name = f"chain_{uuid.uuid4().hex[:8]}"
    found, expected = under_fire(tmp_path, f"kafka://{kafka_bootstrap}", name, workers=1, kills=5)
    assert in_order(found) == in_order(expected)


def first_stage(found: Sequence[Row]) -> dict[str, list[Any]]:
    """What the first stage says of each row that repeats none: its tasks' order is that of the input."""
    return {
        row["payment_id"]: [row[name] for name in NAMES if name.startswith("shop_") or name == "share"]
        for row in found
        if not row["duplicate"]
    }


def assert_state(found: Sequence[Row], expected: Sequence[Row]) -> None:
    """Of two workers that are killed, rows that wait for each other may come to the second stage in another order; its
    windows keep late rows exactly, so in the end each card's state is what it should be.
    """
    assert_once(found, expected)
    assert first_stage(found) == first_stage(expected)
    called = [[row for row in some if row["payment_id"].startswith("call")] for some in (found, expected)]
    assert in_order(called[0]) == in_order(called[1])
    assert len(called[0]) == 13


@pytest.mark.soak
@pytest.mark.matrix("kills of a chain")
@pytest.mark.timeout(600)
def test_two_workers_killed_together(tmp_path: Path) -> None:
    assert_state(*under_fire(tmp_path, f"file:{tmp_path}/log", "chain", workers=2, kills=5))


@pytest.mark.soak
@pytest.mark.matrix("kills of a chain")
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_two_workers_killed_together_on_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    name = f"chain_{uuid.uuid4().hex[:8]}"
    assert_state(*under_fire(tmp_path, f"kafka://{kafka_bootstrap}", name, workers=2, kills=5))
