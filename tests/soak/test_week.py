"""A week of event time through the real `run` on the embedded log: nothing that should level off grows.

Cards live for twelve hours, the windows reach back 6 hours, ids are remembered for 12 hours, keys for one day (ttl),
under a memory budget that makes keys leave, with checkpoints. `STREAMPROC_SOAK_MINUTES`: wall time of the week, 10.
The embedded log keeps all records, so its size is held against their number, and whatever else it keeps (topics,
writers, members, positions) must not grow. Files of old checkpoints stay for the collector's ten minutes of grace, so
their manifests are counted. The budget makes RocksDB's block cache small, to be full soon.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from operators.plan import Plan
from streamproc.cli.compose import open_log
from streamproc.cli.feeder import Sender
from streamproc.cli.options import load_stages
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.embedded.file import FILE_NAME
from streamproc.runtime.topics import prepare_topics
from tests.soak.levels import Figure, growing

ROOT = Path(__file__).parents[2]
MINUTES = float(os.environ.get("STREAMPROC_SOAK_MINUTES", "10"))
WEEK_MS = 7 * 86_400_000
RATE = 500
SAMPLES = 120
CARDS = 4000  # at any time
LIFE_MS = 12 * 3_600_000
START_MS = 1_700_000_000_000
PIPELINE = """
pipeline: week
partitions: 2
streams:
  transactions:
    id: transaction_id
    event_time: event_time
    deduplicate: 12h
    fields:
      transaction_id: string
      card_id: string
      amount: {type: decimal(2), required: true}
      merchant_id: string
      event_time: timestamp
partition_by: card_id
ttl: 1d
features:
  money: {of: amount, aggregates: [count, sum, max], over: [5m, 1h, 6h]}
  shops: {of: merchant_id, aggregates: [distinct], over: [6h]}
rules:
  - {id: many, when: money_count_5m >= 5, then: decline}
  - {id: jump, when: amount > 10 * previous(amount), then: review}
decision: {severity: [decline, review, approve], otherwise: approve, include: [money_sum_6h, shops_distinct_6h]}
"""
LEVEL = {
    "rss_mb": Figure(0.05, 8),
    "open_files": Figure(0, 4),
    "state_mb": Figure(0.15, 2),
    "state_files": Figure(0.25, 4),
    "checkpoints": Figure(0, 2),
    "log_bytes_a_record": Figure(0.2, 0),
    "log_rows_but_records": Figure(0, 0),
}


def payments(seed: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, record) over the week; one in fifty is a record that was there before."""
    rng = random.Random(seed)
    step = WEEK_MS / count
    lately: list[tuple[bytes, bytes]] = []
    for i in range(count):
        at = START_MS + int(i * step)
        lane = rng.randrange(CARDS)
        life = (at + lane * LIFE_MS // CARDS) // LIFE_MS
        row = {
            "transaction_id": f"t{i}",
            "card_id": f"card-{lane}-{life}",
            "amount": f"{rng.randrange(100, 100_000) / 100:.2f}",
            "merchant_id": f"m{rng.randrange(300)}",
            "event_time": at - rng.choice((0, 0, 0, 90_000)),
        }
        payment = (str(row["card_id"]).encode(), json.dumps(row).encode())
        lately = [*lately[-50:], payment]
        yield rng.choice(lately) if rng.random() < 0.02 else payment


def processes(parent: int) -> list[int]:
    """The process and its descendants."""
    found = [parent]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def sizes(directory: Path) -> tuple[float, int]:
    """Bytes in MiB and number of all files below; those that vanish meanwhile do not count."""
    total = count = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(Path(folder, name)).st_size
            except FileNotFoundError:
                continue
            count += 1
    return total / (1 << 20), count


def rows_but_records(log: Path) -> int:
    """Rows of all tables of the embedded log but the one that holds records."""
    with closing(sqlite3.connect(f"file:{log / FILE_NAME}?mode=ro", uri=True, timeout=60)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert "chunks" in tables
        counts = [f"SELECT count(*) FROM {name}" for name in tables if name != "chunks"]
        return sum(database.execute(count).fetchone()[0] for count in counts)


class Soak:
    """The run, its feeder and what is measured of it."""

    def __init__(self, directory: Path) -> None:
        self.pipeline = directory / "week.yaml"
        self.pipeline.write_text(PIPELINE)
        self.log, self.state, self.checkpoints = (directory / name for name in ("log", "state", "checkpoints"))
        self.errors = directory / "stderr"
        self.samples: list[dict[str, float]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "streamproc.cli.main", "run", self.pipeline, "--log", f"file:{self.log}"]
        command += ["--state", self.state, "--checkpoints", self.checkpoints, "--checkpoint-seconds", "5"]
        with self.errors.open("wb") as errors:
            return subprocess.Popen([*map(str, command), "--state-memory", "8"], stdout=errors, stderr=errors, cwd=ROOT)

    def said(self) -> str:
        """The end of what it logged."""
        return self.errors.read_text()[-3000:]

    def sample(self, pid: int, sent: int) -> None:
        rss = files = 0
        for member in processes(pid):
            pages = Path(f"/proc/{member}/statm").read_text().split()[1]
            rss += int(pages) * os.sysconf("SC_PAGE_SIZE")
            files += len(os.listdir(f"/proc/{member}/fd"))
        state_mb, state_files = sizes(self.state)
        checkpoints = len(list(self.checkpoints.glob("week/task-*/manifests/*")))
        log_mb, _ = sizes(self.log)
        self.samples.append(
            {
                "rss_mb": rss / (1 << 20), "open_files": files, "state_mb": state_mb, "state_files": state_files,
                "checkpoints": checkpoints, "log_bytes_a_record": log_mb * (1 << 20) / sent,
                "log_rows_but_records": rows_but_records(self.log),
            }
        )  # fmt: skip

    async def feed(self, plan: Plan, process: subprocess.Popen[bytes], count: int) -> None:
        log = open_log(f"file:{self.log}")
        sender = Sender(plan.stream.topic, await prepare_topics(log, plan), log.appender(), SystemClock(), RATE)
        traffic = payments(1, count)
        while sender.sent < count:
            some = [next(traffic) for _ in range(min(RATE // 2, count - sender.sent))]
            await sender.send([row for _, row in some], [key for key, _ in some])
            assert process.poll() is None, await asyncio.to_thread(self.said)
            if sender.sent * SAMPLES >= (len(self.samples) + 1) * count:
                await asyncio.to_thread(self.sample, process.pid, sender.sent)
        await sender.close()
        await log.close()

    async def decided(self, plan: Plan) -> int:
        """Committed decisions."""
        log = open_log(f"file:{self.log}")
        tps = [TopicPartition(plan.topics.decisions, partition) for partition in range(2)]
        ends = await log.admin().end_offsets(tps)
        await log.close()
        return sum(ends.values())


@pytest.mark.timeout(MINUTES * 60 + 300)
@pytest.mark.soak
@pytest.mark.matrix("a week of event time")
async def test_a_week_of_event_time_levels_off(tmp_path: Path) -> None:
    soak, count = Soak(tmp_path), int(MINUTES * 60 * RATE)
    plan = (await asyncio.to_thread(load_stages, str(soak.pipeline)))[0]
    process = await asyncio.to_thread(soak.start)
    try:
        await soak.feed(plan, process, count)
        deadline = time.monotonic() + 120
        while await soak.decided(plan) < count:
            assert time.monotonic() < deadline, "it does not catch up"
            await asyncio.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0, await asyncio.to_thread(soak.said)
    finally:
        if process.poll() is None:
            process.kill()
    for sample in soak.samples[4::5]:
        print({name: round(figure, 1) for name, figure in sample.items()})
    assert not growing(soak.samples, LEVEL)
    assert max(sample["rss_mb"] for sample in soak.samples) < 600
