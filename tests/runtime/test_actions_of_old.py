"""A pipeline whose `severity` is another one than when the first of a repeat was decided: what is told is what was
decided then, whether the state is read or made anew from the journal.
"""

from __future__ import annotations

import asyncio
import json
import random

import msgspec
import pytest

from operators.plan import Plan
from state import segment_store
from state.entries import Entries
from state.memory import MemoryDisk
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from tests.language.helpers import compiled_stages
from tests.simulation.traffic import START_MS, Record
from tests.simulation.world import World

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields: {id: string, card: string, amount: decimal(2), at: timestamp}
partition_by: card
rules:
  - {id: large, when: amount > 1000, then: decline, reason: large}
"""
MIDDLE = "  - {id: middle, when: amount > 500, then: review, reason: middle}\n"
AMOUNTS = 5, 700, 2000
FIRST = "decline, review, approve"


def plan(severity: str, rules: str = MIDDLE) -> Plan:
    """`approve` is the usual action, where there is one."""
    otherwise = "approve" if "approve" in severity else severity.rsplit(", ", maxsplit=1)[-1]
    text = f"{PIPELINE}{rules}decision: {{severity: [{severity}], otherwise: {otherwise}}}\n"
    (found,) = compiled_stages(text)
    return found


def payments() -> list[Record]:
    return [
        Record("c", json.dumps({"id": f"t{n}", "card": "c", "amount": amount, "at": START_MS}).encode())
        for n, amount in enumerate(AMOUNTS)
    ]


def told(plans: list[Plan], *, disk: bool) -> list[list[str]]:
    """What each plan in turn says of the same payments; without `disk` each begins from the journal."""

    async def run() -> list[list[str]]:
        rng = random.Random(1)
        world, found = World(plans[0], rng, Faults(rng)), list[str]()
        for one in plans:
            world.plan = msgspec.structs.replace(one, topic_partitions=2)
            if not disk:
                world.disk = MemoryDisk(rng)
            await world.feed(payments())
            assert await world.work(flush_rows=1)
        for partition in (0, 1):
            records = await world.read("shop.decisions", partition)
            found += [json.loads(value)["decision"] for _, value, _ in records]
        return [found[i : i + len(AMOUNTS)] for i in range(0, len(found), len(AMOUNTS))]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


@pytest.mark.parametrize("disk", [True, False], ids=["state", "journal"])
@pytest.mark.parametrize(
    ("now", "rules", "expected"),
    [
        ("review, approve, decline", MIDDLE, ["approve", "review", "decline"]),
        ("block, decline, challenge, review, approve", MIDDLE, ["approve", "review", "decline"]),
        ("decline, approve", "", ["approve", "approve", "decline"]),
        ("decline, pass", "", ["pass", "pass", "decline"]),
    ],
    ids=["reordered", "longer", "shorter", "others"],
)
def test_a_repeat_is_told_what_was_decided(now: str, rules: str, expected: list[str], *, disk: bool) -> None:
    before, after = plan(FIRST), plan(now, rules)
    assert before.state_fingerprint == after.state_fingerprint
    assert told([before, after], disk=disk) == [["approve", "review", "decline"], expected]


@pytest.mark.parametrize("disk", [True, False], ids=["state", "journal"])
def test_an_action_that_comes_back_is_told_again(*, disk: bool) -> None:
    """Nothing is lost by a start under a list without it."""
    said = told([plan(FIRST), plan("decline, approve", ""), plan("approve, decline, review")], disk=disk)
    assert said[1:] == [["approve", "approve", "decline"], ["approve", "review", "decline"]]


@pytest.mark.parametrize(
    ("now", "expected"), [("decline, review, pass", "pass"), ("decline, pass", "pass")], ids=["in place", "gone"]
)
def test_state_without_names_is_read_by_place(now: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older releases kept places alone."""
    before, after = plan(FIRST), plan(now, "")
    packed = segment_store._pack_chunk

    def of_old(entries: Entries, actions: tuple[str, ...]) -> bytes:
        return b"\x01" + packed(entries, actions)[1 : 5 + len(entries.lo) * segment_store._ENTRY_BYTES]

    monkeypatch.setattr(segment_store, "_pack_chunk", of_old)
    assert told([before, after], disk=True)[1][0] == expected
