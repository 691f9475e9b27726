"""`--until-end` with a call between two stages: the end of a stage is not looked for before the calls are done."""

from __future__ import annotations

import asyncio
import random

from streamproc.cli.calls import beside
from streamproc.eventlog.simulated import VirtualClock, VirtualTimeLoop
from streamproc.runtime.caller import Caller
from streamproc.runtime.settings import WorkerSettings
from tests.runtime.chain_world import ROWS, decided, fed_chain, worker_of
from tests.runtime.test_caller import Oracle

PIPELINE = """\
pipeline: p
partitions: 2
streams:
  payments: {id: id, event_time: at, fields: {id: string, device: string, at: timestamp}}
stages:
  - {name: first, partition_by: device}
  - name: reputation
    call: {url: "http://127.0.0.1:9/?d={device}", in_flight: 4}
    returns: {reputation: int64}
  - {name: last, partition_by: device}
"""
SEEDS = 80


async def decided_at_the_end(seed: int) -> int:
    """How many decisions there are when the worker says that it is at the end."""
    rng, clock = random.Random(seed), VirtualClock()
    plans, log = await fed_chain(PIPELINE, rng, clock)
    settings = WorkerSettings(until_end=True, batch_rows_max=rng.choice((5, 64)))
    (spec,) = plans[1].calls
    caller = Caller(spec, plans, log, Oracle(rng), clock=clock, settings=settings)
    await beside(worker_of(plans, log, rng, settings), [caller])
    found = await decided(log, plans[1])
    await log.close()
    return found


def test_at_the_end_all_is_decided() -> None:
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.run(decided_at_the_end(seed)) == ROWS, f"seed {seed}"
