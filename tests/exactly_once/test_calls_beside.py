"""Kills of calls before, within and behind branches side by side: in the end what a backtest says, each row once.

A service may be asked again about a row whose answer died with its worker: no decision shows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.calls.server import Server, in_a_thread
from tests.cli.chain import fed, finish, ran
from tests.cli.shops import PAGE, at_ends, example, payments, written
from tests.exactly_once.one_kill import killed

pytestmark = [pytest.mark.xdist_group("campaigns"), pytest.mark.timeout(600)]

COUNT = 240
Placed = Callable[[Path, int], Path]
"""The pipeline in a folder, its services on a port."""
NAMES = ["payment_id", "decision", *PAGE.split("include: [")[2].split("]")[0].split(", ")]
PLACES = (
    "asked:20:0", "holding:1:0", "4:4:0", "produced:4:0", "6:3:0", "ending:3:0", "7:3:1", "gathering:2:0",
    "flushing:2:0", "checkpointing:2:0", "restoring:3:0", "asked:1:0",
)  # fmt: skip
"""See hooks.py and transaction.py."""


def shown(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """What is compared of decisions, in their order; of repeats the action is all there is."""
    return [[row.get(name) for name in NAMES] for row in rows if not row.get("duplicate", False)]


def under_fire(placed: Placed, folder: Path, places: tuple[str, ...]) -> None:
    with in_a_thread(Server()) as server:
        _under_fire(placed(folder, server.port), folder, places)


def _under_fire(pipeline: Path, folder: Path, places: tuple[str, ...]) -> None:
    """The input comes in pieces, one before each kill."""
    log, state = f"file:{folder}/log", folder / "state"
    given, size = payments(COUNT), -(-(COUNT + 5) // (len(places) + 1))
    files = [written(folder / f"{at}.ndjson", given[at : at + size]) for at in range(0, len(given), size)]
    options: list[object] = ["--log", log, "--state", state, "--instance", "pod", "--log-level", "warning"]
    options += ["--checkpoints", folder / "cp", "--checkpoint-seconds", 1, "--until-end", pipeline]
    hits = 0
    for number, (file, place) in enumerate(zip(files, places, strict=False)):
        fed(pipeline, log, file)
        hits += killed(folder, number, place, *options)
    assert hits >= len(places) * 3 // 4
    fed(pipeline, log, files[-1])
    ran(pipeline, log, state)
    tailed = finish("tail", "decisions", "--pipeline", pipeline, "--log", log, "--until-end")
    decided = [json.loads(line) for line in tailed.lines]
    output = folder / "out.parquet"
    done = finish("backtest", pipeline, "--input", *files, "--output", output, "--calls", "live")
    assert done.code == 0, done.err
    assert shown(decided) == shown(pq.read_table(output).to_pylist())
    assert len(decided) == COUNT + 5
    assert len(shown(decided)) == COUNT


def test_killed_at_two_places(tmp_path: Path) -> None:
    under_fire(example, tmp_path, PLACES[:2])


@pytest.mark.soak
@pytest.mark.matrix("kills of calls and branches")
@pytest.mark.parametrize("placed", [example, at_ends])
def test_killed_at_every_place(placed: Placed, tmp_path: Path) -> None:
    under_fire(placed, tmp_path, PLACES)
