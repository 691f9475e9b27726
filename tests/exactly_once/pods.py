"""Pods on one real broker: each a `run` with a name and a state directory of its own."""

from __future__ import annotations

__all__ = ["PARTITIONS", "Pod", "ends", "positions", "until"]

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.kafka import KafkaLog
from tests.exactly_once.campaign import Campaign
from tests.exactly_once.marks import Marks

PARTITIONS = range(4)
PATIENCE_S = 90.0


class Pod:
    """One `run` of one worker, started; several lives of a pod share its marks."""

    def __init__(
        self, campaign: Campaign, pod: str, *given: object, instance: str = "", kafka: Mapping[str, int] | None = None
    ) -> None:
        self.path = path = campaign.directory / f"marks-{pod}"
        where = ["--instance", instance or pod, "--state", campaign.directory / f"state-{pod}"]
        self.campaign = campaign
        self.process: subprocess.Popen[str] = campaign.start(path, *where, *given, kafka=kafka)
        self.marks = Marks(path)

    @property
    def commits(self) -> int:
        """Of all its lives."""
        return self.marks.read(0).commits

    def child(self, worker: int = 0) -> int:
        """The process id of one of its workers."""
        found = self.marks.child(worker, self.process.pid)
        assert found is not None
        return found

    def stands(self) -> bool:
        """Whether its worker is stopped (SIGSTOP)."""
        return Path(f"/proc/{self.child()}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def signal(self, number: int) -> None:
        """To the parent and its worker."""
        os.killpg(self.process.pid, number)

    def until_more(self, commits: int = 5) -> None:
        """Wait for so many more commits."""
        wanted = self.commits + commits
        until(lambda: self.commits >= wanted, self)

    def stop_in_order(self, *, early: bool = False) -> None:
        """SIGTERM, as an orchestrator sends it; `early`: maybe before Python has come to handle it."""
        assert self.process.poll() is None, self.campaign.logged()
        self.process.terminate()
        code = self.process.wait(60)
        assert code in ((0, -signal.SIGTERM) if early else (0,)), f"exit code {code}: {self.campaign.logged()}"


def until(reached: Callable[[], bool], *alive: Pod, within_s: float = PATIENCE_S) -> None:
    """Wait for it, while these live."""
    deadline = time.monotonic() + within_s
    while not reached():
        for pod in alive:
            assert pod.process.poll() is None, pod.campaign.logged()
        assert time.monotonic() < deadline, "it does not come to it"
        time.sleep(0.002)


def _asked(campaign: Campaign, committed: bool) -> list[int]:
    async def fetch() -> Mapping[TopicPartition, int]:
        log = KafkaLog.from_url(campaign.log_url)
        tps = [TopicPartition(f"{campaign.pipeline}.transactions", p) for p in PARTITIONS]
        try:
            if not committed:
                return await log.admin().end_offsets(tps)
            return {tp: found.offset for tp, found in (await log.admin().committed(campaign.pipeline, tps)).items()}
        finally:
            await log.close()

    found = {tp.partition: offset for tp, offset in asyncio.run(fetch()).items()}
    return [found.get(partition, 0) for partition in PARTITIONS]


def positions(campaign: Campaign) -> list[int]:
    """The group's committed offsets."""
    return _asked(campaign, committed=True)


def ends(campaign: Campaign) -> list[int]:
    """Where the input ends."""
    return _asked(campaign, committed=False)
