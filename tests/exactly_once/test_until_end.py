"""`--until-end` on Kafka, where the input ends with a foreign producer's aborted transaction: no record says so."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.kafka import KafkaLog
from tests.exactly_once.campaign import Campaign

pytestmark = [pytest.mark.xdist_group("campaigns"), pytest.mark.kafka]

SECONDS_MAX = 60.0


async def abort(campaign: Campaign) -> None:
    log = KafkaLog.from_url(campaign.log_url)
    writer = log.writer(f"foreign-{campaign.pipeline}")
    await writer.open()
    await writer.begin()
    tps = [TopicPartition(f"{campaign.pipeline}.transactions", partition) for partition in range(4)]
    await writer.append([OutputRecords(tp, [b"c1"], [b"{}"], 0) for tp in tps])
    await writer.delivered()
    await writer.abort()
    await writer.abandon()
    await log.close()


@pytest.mark.timeout(240)
def test_an_aborted_transaction_comes_last(tmp_path: Path, kafka_bootstrap: str) -> None:
    campaign = Campaign(tmp_path, f"kafka://{kafka_bootstrap}", f"end_{uuid.uuid4().hex[:8]}")
    sent = campaign.feed(2_000, seed=41)
    campaign.drain()
    for workers in (1, 2):
        asyncio.run(abort(campaign))
        done = campaign.command("--until-end", "--workers", workers, timeout=SECONDS_MAX)
        assert done.returncode == 0, done.stderr[-2000:]
    verdict = campaign.verify(sent)
    assert verdict["decisions"] + verdict["dead_letters"] == sent
