"""When the old generation of a pipeline counts as ended."""

from __future__ import annotations

import random

import pytest

from state.errors import ConfigError
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import SimulatedCluster, VirtualClock
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.generation import end_of_generation
from streamproc.runtime.topics import prepare_topics
from tests.runtime.test_caller import PIPELINE


async def test_rows_on_their_way_to_a_service_are_not_left_behind() -> None:
    log = SimulatedCluster(VirtualClock(), random.Random(1)).client("one")
    plans = compile_stages(read_pipeline(PIPELINE, "p.yaml"))
    await prepare_topics(log, *plans)
    await log.appender().append([OutputRecords(TopicPartition("p.reputation", 1), [b"k"], [b"{}"], 1)])
    with pytest.raises(ConfigError, match=r"p\.reputation\[1\] has records from offset 0 on that are not decided yet"):
        await end_of_generation(log, plans[1])
    await log.close()
