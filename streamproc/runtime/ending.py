"""The end of what was there at the start, which may lie behind the last record that anybody sees.

Control records and those of aborted transactions take offsets, but no batch ever commits them. So for our own tasks
the reader's position counts, which passes them; for other workers' tasks their commits, and what lies behind these.
"""

from __future__ import annotations

__all__ = ["Leg", "at_end", "committed_or_begin", "ends_now", "nothing_between"]

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from streamproc.clock import Clock
from streamproc.eventlog.contract import EventLog, GroupReader, TopicPartition

_PROGRESS_SECONDS = 0.3
_POLL_MS = 50
_POLLS_MAX = 20


class Leg(NamedTuple):
    """A part of a row's way: the group that does it, the topics that it reads, and what of these we read ourselves."""

    group: str
    topics: Sequence[str]
    own: Collection[TopicPartition] = ()


async def at_end(
    log: EventLog, reader: GroupReader, clock: Clock, leg: Leg, ends: Mapping[TopicPartition, int]
) -> bool:
    """Whether a leg has done everything before `ends`; to be asked when nothing is buffered or in flight.

    Raises:
        EventLogError: the log cannot be asked.
    """
    if any(reader.position(tp) < end for tp, end in ends.items() if tp in leg.own):
        return False
    others = {tp: end for tp, end in ends.items() if tp not in leg.own}
    found = await committed_or_begin(log, leg.group, others)
    short = [tp for tp, end in others.items() if found[tp] < end]
    if not short:
        return True
    await clock.sleep(_PROGRESS_SECONDS)
    if await committed_or_begin(log, leg.group, others) != found:
        return False  # somebody is at work: look again later
    return await nothing_between(log, {tp: (found[tp], others[tp]) for tp in short})


async def committed_or_begin(log: EventLog, group: str, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """The group's offsets; where reading begins, if there is none."""
    if not tps:
        return {}
    found = await log.admin().committed(group, list(tps))
    begins = await log.admin().begin_offsets([tp for tp in tps if tp not in found])
    return {tp: found[tp].offset if tp in found else begins[tp] for tp in tps}


async def ends_now(log: EventLog, topics: Sequence[str], partitions: int) -> dict[TopicPartition, int]:
    """Where the topics' partitions end now, those that hold anything."""
    admin, tps = log.admin(), [TopicPartition(topic, p) for topic in topics for p in range(partitions)]
    begins, ends = await admin.begin_offsets(tps), await admin.end_offsets(tps)
    return {tp: end for tp, end in ends.items() if end > begins[tp]}


async def nothing_between(log: EventLog, gaps: Mapping[TopicPartition, tuple[int, int]]) -> bool:
    """Whether no gap (from, to) holds a record that will ever be delivered; an open transaction's might be."""
    scanner = log.scanner()
    try:
        for tp, (start, _) in gaps.items():
            scanner.seek(tp, start)
        for _ in range(_POLLS_MAX):
            for chunk in await scanner.poll(_POLL_MS):
                if chunk.offsets[0] < gaps[chunk.tp][1]:
                    return False
            if all(scanner.position(tp) >= end for tp, (_, end) in gaps.items()):
                return True
    finally:
        await scanner.close()
    return False
