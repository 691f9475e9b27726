"""Clean stops, a lost state directory, and two runs at once: what an operator does, by hand or by mistake."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from state.rocksdb import RocksRowStores
from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.marks import Marks
from tests.exactly_once.readers import open_reader

pytestmark = pytest.mark.xdist_group("campaigns")  # one at a time: each wants the machine

STOP_SECONDS_MAX = 30.0
PARTITIONS = 4
LogKind = str


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def campaign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Campaign]:
    """Each test on both logs, under a pipeline name of its own."""
    url = f"file:{tmp_path}/log"
    if request.param == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    made = Campaign(tmp_path, url, f"stop_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


def until_commit(campaign: Campaign, process: subprocess.Popen[str], marks: Marks, more: int = 0) -> None:
    wanted = marks.read(0).commits + more + 1
    deadline = time.monotonic() + 90
    while marks.read(0).commits < wanted:
        assert process.poll() is None, campaign.logged()
        assert time.monotonic() < deadline, campaign.logged()
        time.sleep(0.005)


def stopped(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, float]:
    """Exit code and how long it took."""
    started = time.monotonic()
    process.send_signal(number)
    return process.wait(60), time.monotonic() - started


def truncate(campaign: Campaign, positions: dict[int, int]) -> None:
    """Retention has taken the input below the positions."""
    topic = f"{campaign.pipeline}.transactions"
    if campaign.log_url.startswith("file:"):
        with sqlite3.connect(campaign.directory / "log" / "log.sqlite3") as db:
            for partition, offset in positions.items():
                where = (offset, topic, partition)
                db.execute("UPDATE partitions SET begin_offset = ? WHERE topic = ? AND partition = ?", where)
        db.close()
        return

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=campaign.log_url.removeprefix("kafka://"))
        await admin.start()
        wanted = {aiokafka.TopicPartition(topic, p): RecordsToDelete(before_offset=at) for p, at in positions.items()}
        await admin.delete_records(wanted)
        await admin.close()

    asyncio.run(delete())


def committed(campaign: Campaign) -> dict[int, int]:
    found = open_reader(campaign.log_url).committed(campaign.pipeline, f"{campaign.pipeline}.transactions")
    return {partition: offset for partition, (offset, _) in found.items()}


def state_rows(directory: Path) -> dict[tuple[int, bytes], bytes]:
    """Every key's rows and ring chunks. How deduplication cuts its chunks depends on when they were flushed."""
    stores = RocksRowStores(directory)
    rows: dict[tuple[int, bytes], bytes] = {}
    for task in range(PARTITIONS):
        store = stores.open(task)
        rows |= {(task, key): value for key, value in store.scan(b"") if key[:1] in (b"r", b"c")}
    stores.close()
    return rows


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_leaves_nothing_to_replay(campaign: Campaign, number: int) -> None:
    plan = Plan(rate=2_000, events=20_000, seed=7)
    marks = Marks(campaign.directory / "marks")
    with campaign.feeding(plan) as feeder:
        first = campaign.start(campaign.directory / "marks")
        until_commit(campaign, first, marks, more=5)
        code, seconds = stopped(first, number)
        assert code == 0, campaign.logged()
        assert seconds < STOP_SECONDS_MAX
        assert not marks.read(0).busy
        at_stop = committed(campaign)
        assert at_stop
        second = campaign.start(campaign.directory / "marks")
        until_commit(campaign, second, marks)
        assert marks.read(0).replayed == 0
        assert stopped(second, number)[0] == 0, campaign.logged()
        sent = campaign.end_of(feeder)["sent"]
    campaign.drain()
    assert all(offset > at_stop.get(partition, 0) for partition, offset in committed(campaign).items())
    assert campaign.verify(sent)["ok"]
    # What was decided is not needed any more: the next start replays nothing, so it does not miss it.
    truncate(campaign, committed(campaign))
    assert campaign.command("--until-end").returncode == 0


@pytest.mark.timeout(300)
def test_a_lost_state_directory_is_replayed_in_full(campaign: Campaign, tmp_path: Path) -> None:
    """State and decisions are those of a twin that lost nothing.

    A few rows may differ where a late row came first: cells behind a NULL flag hold whatever was there before.
    """
    twin = Campaign(tmp_path / "twin", f"file:{tmp_path}/twin/log", campaign.pipeline)
    for each in (campaign, twin):
        each.feed(10_000, seed=8)
        each.drain()
        if each is campaign:
            shutil.rmtree(each.state)
        each.feed(4_000, seed=8, skip=10_000)
        each.drain()
        assert each.verify(14_000)["ok"]
    rows, wanted = (state_rows(each.state / each.pipeline) for each in (campaign, twin))
    assert len(wanted) > 5_000
    assert rows.keys() == wanted.keys()
    different = [key for key in wanted if rows[key] != wanted[key]]
    assert len(different) * 100 < len(wanted), different[:5]


@pytest.mark.timeout(300)
def test_a_lost_state_directory_and_truncated_input_are_refused(campaign: Campaign) -> None:
    sent = campaign.feed(10_000, seed=9)
    campaign.drain()
    assert campaign.verify(sent)["ok"]
    shutil.rmtree(campaign.state)
    truncate(campaign, {partition: offset // 2 for partition, offset in committed(campaign).items()})
    before = committed(campaign)
    campaign.feed(2_000, seed=9, skip=10_000)
    refused = campaign.command("--until-end")
    assert refused.returncode == 2, refused.stderr
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "restore the state directory from a copy" in last
    assert committed(campaign) == before


@pytest.mark.timeout(300)
def test_a_second_run_is_refused_and_the_first_goes_on(campaign: Campaign) -> None:
    plan = Plan(rate=1_000, events=10_000, seed=10)
    marks = Marks(campaign.directory / "marks")
    with campaign.feeding(plan) as feeder:
        first = campaign.start(campaign.directory / "marks")
        until_commit(campaign, first, marks)
        second = campaign.command(timeout=60)
        assert second.returncode == 2, second.stderr
        assert "held by" in second.stderr
        until_commit(campaign, first, marks, more=3)
        sent = campaign.end_of(feeder)["sent"]
        assert stopped(first)[0] == 0, campaign.logged()
    campaign.drain()
    assert campaign.verify(sent)["ok"]


@pytest.mark.timeout(300)
def test_a_second_run_with_a_state_of_its_own_fences_the_first(campaign: Campaign) -> None:
    plan = Plan(rate=1_000, events=10_000, seed=11)
    marks = Marks(campaign.directory / "marks")
    others = Marks(campaign.directory / "others")
    with campaign.feeding(plan) as feeder:
        first = campaign.start(campaign.directory / "marks")
        until_commit(campaign, first, marks)
        campaign.state = campaign.directory / "state-2"
        second = campaign.start(campaign.directory / "others")
        until_commit(campaign, second, others, more=3)
        assert first.wait(60) == 1, campaign.logged()
        assert "error: " in campaign.logged()
        sent = campaign.end_of(feeder)["sent"]
        assert stopped(second)[0] == 0, campaign.logged()
    campaign.drain()
    assert campaign.verify(sent)["ok"]
