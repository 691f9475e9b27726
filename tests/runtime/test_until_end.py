"""`--until-end` of two stages: a poll that brings records while the end is looked for is not the end."""

from __future__ import annotations

import asyncio
import random

from streamproc.eventlog.simulated import VirtualClock, VirtualTimeLoop
from streamproc.runtime.settings import WorkerSettings
from tests.runtime.chain_world import ROWS, decided, fed_chain, worker_of

PIPELINE = """\
pipeline: p
partitions: 2
streams:
  payments: {id: id, event_time: at, fields: {id: string, device: string, at: timestamp}}
stages:
  - {name: first, partition_by: device}
  - {name: last, partition_by: device}
"""
SEEDS = 80


async def decided_at_the_end(seed: int) -> int:
    """How many decisions there are when the worker says that it is at the end."""
    rng, clock = random.Random(seed), VirtualClock()
    plans, log = await fed_chain(PIPELINE, rng, clock)
    settings = WorkerSettings(until_end=True, batch_rows_max=rng.choice((5, 64)))
    await worker_of(plans, log, rng, settings).run()
    found = await decided(log, plans[1])
    await log.close()
    return found


def test_at_the_end_all_is_decided() -> None:
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.run(decided_at_the_end(seed)) == ROWS, f"seed {seed}"
