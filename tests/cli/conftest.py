"""A small pipeline, rows for it, and the command line at hand."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from streamproc.cli.commands import app
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.cli.main import run_command
from streamproc.eventlog.contract import Headers, TopicPartition
from tests.processes import Process

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 24h
    fields:
      payment_id: {type: string, from: Payment}
      card: {type: string, from: Card}
      amount: {type: decimal(2), from: Amount, required: true}
      country: {type: string, from: Country}
      at: {type: timestamp, from: At}
partition_by: card
features:
  amount: amount
  spend: {of: amount, aggregates: [count, sum, mean], over: [1h, 24h]}
  share: amount / spend_sum_24h
  abroad: country <> 'be'
rules:
  - {id: many, when: spend_count_1h >= 4, then: decline, reason: four payments in an hour, to: urgent}
  - {id: abroad, when: abroad, then: review}
  - {id: dear, when: amount > 90, then: review, mode: shadow}
decision: {severity: [decline, review, approve], otherwise: approve, include: [amount, country, spend_sum_1h, share]}
"""
START = datetime(2026, 5, 1, tzinfo=UTC)


BOTH = pytest.mark.parametrize("log", ["file", pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True)
"""For the fixture `log`."""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def cells(self) -> list[str]:
        """The lines of a table, two blanks between what stands in its columns."""
        return ["  ".join(filter(None, map(str.strip, line.split("  ")))) for line in self.lines]


Cli = Callable[..., Outcome]


def _flat(group: Any, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= _flat(command, f"{before}{name} ") if hasattr(command, "commands") else {before + name: command}
    return found


COMMANDS = _flat(typer.main.get_command(app))
"""Every command by what is typed, such as `state inspect`."""


def done(*arguments: object) -> None:
    """The command line in this process, which must succeed; for fixtures that several tests share."""
    assert run_command([str(argument) for argument in arguments]) == 0, arguments


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run_command([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own, forked: see tests/processes.py."""
    command = [sys.executable, "-m", "streamproc.cli.main", *map(str, arguments)]
    return Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finish(*arguments: object) -> Outcome:
    """The same, awaited."""
    process = start(*arguments)
    out, err = process.communicate(timeout=50)
    return Outcome(process.returncode, out, err)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE)
    return path


def payments(count: int, seed: int = 1, first: int = 0) -> list[dict[str, Any]]:
    """Rows in shuffled order, some of them twice, some with NULLs."""
    chance = random.Random(seed)
    rows = [
        {
            "Payment": f"p{n}",
            "Card": f"c{chance.randrange(20)}",
            "Amount": chance.randrange(1, 10_000) / 100,
            "Country": chance.choice(["be", "be", "be", "fr", None]),
            "At": START + timedelta(milliseconds=chance.randrange(86_400_000)),
        }
        for n in range(first, first + count)
    ]
    return rows + chance.sample(rows, count // 20)


@pytest.fixture
def log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a log, of the kind that `BOTH` names."""
    if request.param == "file":
        return f"file:{tmp_path}/log"
    return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"


def journal(log: str, pipeline: str, partitions: int) -> list[tuple[Headers, bytes | None]]:
    """The records of a journal."""

    async def read() -> list[tuple[Headers, bytes | None]]:
        opened, found = open_log(log), list[tuple[Headers, bytes | None]]()
        scanner, tps = opened.scanner(), [TopicPartition(f"{pipeline}.journal", p) for p in range(partitions)]
        ends = await opened.admin().end_offsets(tps)
        for tp in tps:
            scanner.seek(tp, 0)
        while any(scanner.position(tp) < ends[tp] for tp in tps):
            for chunk in await scanner.poll(100):
                assert chunk.headers is not None
                found += zip(chunk.headers, chunk.values, strict=True)
        await scanner.close()
        await opened.close()
        return found

    return run_async(read())
