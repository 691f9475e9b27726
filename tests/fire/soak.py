"""How long campaigns go on in a soak: each kind has a share of their minutes, which SOAK_CAMPAIGN_MINUTES says."""

from __future__ import annotations

__all__ = ["CAMPAIGN_MINUTES", "MINUTES", "SEED_FIRST", "forget", "seeds"]

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import Iterator

from aiokafka.admin import AIOKafkaAdminClient

from tests.exactly_once.campaign import Campaign

CAMPAIGN_MINUTES = "SOAK_CAMPAIGN_MINUTES"
MINUTES = float(os.environ.get(CAMPAIGN_MINUTES, "20"))
SEED_FIRST = int(os.environ.get("SOAK_SEED", "1000"))


def seeds(share: float) -> Iterator[int]:
    """One after the other until the share of the time is over; one at least, and none of which more than half would
    come after it.
    """
    deadline = time.monotonic() + 60 * MINUTES * share
    for seed in itertools.count(SEED_FIRST):
        begun = time.monotonic()
        yield seed
        now = time.monotonic()
        if now + (now - begun) / 2 > deadline:
            return


def forget(campaign: Campaign) -> None:
    """Room for the next: the directory, and the topics on a broker that others share."""
    shutil.rmtree(campaign.directory)
    if not campaign.log_url.startswith("kafka:"):
        return

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=campaign.log_url.removeprefix("kafka://"))
        await admin.start()
        mine = [name for name in await admin.list_topics() if name.startswith(f"{campaign.pipeline}.")]
        await admin.delete_topics(mine)
        await admin.close()

    asyncio.run(delete())
