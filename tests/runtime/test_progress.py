"""How far the group has come: what a look says, and when a partition counts as behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from state.errors import EventLogError
from streamproc.clock import Clock
from streamproc.eventlog.contract import Chunk, CommittedOffset, EventLog, TopicPartition
from streamproc.runtime.journal import CHAIN_START, JournalHead
from streamproc.runtime.progress import LONG_AGO, Progress

TP = TopicPartition("first", 0)
OTHER = TopicPartition("first", 1)
AWAY = -1  # what a reader says of a partition that is not ours


def said(offset: int, time: int) -> CommittedOffset:
    return CommittedOffset(offset, JournalHead(3, CHAIN_START, 17, time).text())


class Log:
    """A log, its clock and its admin, all scripted; `records`: what a scanner still finds, by offset."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looks = 0
        self.scans = 0
        self.ends = {TP: 0, OTHER: 0}
        self.begins = {TP: 0, OTHER: 0}
        self.offsets: dict[TopicPartition, CommittedOffset] = {}
        self.records: list[int] = []
        self.broken = False

    def monotonic(self) -> float:
        return self.now

    def admin(self) -> Log:
        return self

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        self.looks += 1
        if self.broken:
            raise EventLogError("no answer", retriable=True)
        return {tp: self.ends[tp] for tp in tps}

    async def begin_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.begins[tp] for tp in tps}

    async def committed(self, group: str, tps: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        return {tp: self.offsets[tp] for tp in tps if tp in self.offsets}

    def scanner(self) -> Any:
        self.scans += 1
        return Scanner(self.records, self.ends)


class Scanner:
    def __init__(self, records: list[int], ends: dict[TopicPartition, int]) -> None:
        self.records, self.ends = records, ends

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.at = offset

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        found = [offset for offset in self.records if offset >= self.at][:1]
        return [Chunk(TP, found, [None], [b""], [0], found[0] + 1)] if found else []

    def position(self, tp: TopicPartition) -> int:
        return self.ends[tp]

    async def close(self) -> None:
        pass


async def looked(progress: Progress, log: Log, *, after: float = 0.3) -> None:
    """A look, taken up."""
    log.now += after
    progress.look()
    for _ in range(20):
        await asyncio.sleep(0)
    progress.look()


def watched(log: Log) -> Progress:
    progress = Progress(cast("EventLog", log), "group", cast("Clock", log))
    progress.partitions = [TP, OTHER]
    return progress


async def test_all_are_far_behind_until_the_first_look() -> None:
    log = Log()
    progress = watched(log)
    assert (progress.known, progress.behind(TP, AWAY)) == (False, LONG_AGO)
    await looked(progress, log)
    assert (progress.known, progress.behind(TP, AWAY)) == (True, None)
    progress.forget()
    assert (progress.known, progress.behind(TP, AWAY), progress.time(TP)) == (False, LONG_AGO, LONG_AGO)


async def test_who_has_not_decided_what_was_there_is_behind_at_the_time_it_committed() -> None:
    log = Log()
    log.ends, log.offsets = {TP: 90, OTHER: 50}, {TP: said(70, 1234)}
    progress = watched(log)
    await looked(progress, log)
    assert (progress.behind(TP, AWAY), progress.time(TP)) == (1234, 1234)
    assert progress.behind(TP, 90) is None, "it is ours, and read to its end"
    assert progress.behind(OTHER, AWAY) == LONG_AGO, "nobody has ever committed there"
    log.begins = {TP: 0, OTHER: 50}
    await looked(progress, log)
    assert progress.behind(OTHER, AWAY) is None, "nothing is left of what was there"


async def test_what_has_just_come_makes_nobody_behind() -> None:
    log = Log()
    log.ends, log.offsets = {TP: 10, OTHER: 0}, {TP: said(10, 5)}
    progress = watched(log)
    await looked(progress, log)
    log.ends, log.records = {TP: 11, OTHER: 0}, [10]
    await looked(progress, log)
    assert progress.behind(TP, AWAY) is None
    await looked(progress, log)
    assert progress.behind(TP, AWAY) == 5, "it was there at the look before, too"


async def test_looks_that_all_fail_are_told_once() -> None:
    log = Log()
    progress = watched(log)
    log.broken = True
    with capture_logs() as logs:
        for _ in range(40):
            await looked(progress, log)
        assert [entry["log_level"] for entry in logs].count("warning") == 1
        log.broken = False
        await looked(progress, log)
        log.broken = True
        for _ in range(10):
            await looked(progress, log)
    assert [entry["log_level"] for entry in logs].count("warning") == 1, "three seconds since one that did not"


async def test_marks_of_transactions_are_no_lag() -> None:
    log = Log()
    log.ends, log.offsets = {TP: 11, OTHER: 0}, {TP: said(10, 5)}
    progress = watched(log)
    await looked(progress, log)
    assert progress.behind(TP, AWAY) == 5
    await looked(progress, log)
    assert (progress.behind(TP, AWAY), log.scans) == (None, 1)
    await looked(progress, log)
    assert (progress.behind(TP, AWAY), log.scans) == (None, 1), "found out once"
    log.ends, log.records = {TP: 13, OTHER: 0}, [11]
    for _ in range(3):
        await looked(progress, log)
    assert progress.behind(TP, AWAY) == 5


async def test_looks_are_now_and_then_and_survive_a_log_that_does_not_answer() -> None:
    log = Log()
    log.ends, log.offsets = {TP: 3, OTHER: 0}, {TP: said(2, 9)}
    progress = watched(log)
    await looked(progress, log)
    assert log.looks == 1
    await looked(progress, log, after=0.1)
    assert log.looks == 1
    log.broken = True
    await looked(progress, log, after=0.2)
    assert (log.looks, progress.behind(TP, AWAY)) == (2, 9)
    progress.forget()
    await looked(progress, log)
    assert not progress.known
    await progress.close()


@pytest.mark.parametrize("text", ["", "somebody else's", "1:3:17", "1:x:17:00:5", "9:3:17:" + "00" * 32])
async def test_offsets_of_another_program_say_nothing(text: str) -> None:
    log = Log()
    log.ends, log.offsets = {TP: 3, OTHER: 0}, {TP: CommittedOffset(1, text)}
    progress = watched(log)
    await looked(progress, log)
    assert progress.behind(TP, AWAY) == LONG_AGO


async def test_what_is_written_here_makes_its_partition_behind_at_once_until_it_is_read() -> None:
    log = Log()
    log.ends, log.offsets = {TP: 10, OTHER: 0}, {TP: said(10, 5)}
    progress = watched(log)
    await looked(progress, log)
    progress.wrote({TP: 12})
    assert (progress.behind(TP, 10), progress.behind(TP, 13), progress.behind(OTHER, AWAY)) == (5, None, None)
    await looked(progress, log)
    assert progress.behind(TP, 12) == 5, "a look that began before knows less"
    progress.forget()
    await looked(progress, log)
    assert progress.behind(TP, 10) is None
