"""A table that changes while workers run: who publishes it, and what each of its versions says."""

from __future__ import annotations

__all__ = ["Limits"]

import json
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from operators.plan import Plan
from operators.tables import LookupTable, TableSchema
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import SimulatedCluster
from streamproc.runtime.journal import decode_entry
from tests.simulation.committed import committed_records

TOPIC = TopicPartition("simulated.limits", 0)
_TOPS = (None, 1, 20, 100, 1000)
_REFUSED = (b'{"top":"much"}', b"[]", b"{", b'{"card_id":"another","top":1}')
Versions = Sequence[tuple[int, int]]
"""(the offset before which rows were decided so, the offset before which the table's topic had been read)"""


class Limits:
    """The rows of the table after each record of its topic."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._ends, self._states = [0], [dict[str, int]()]

    def change(self, rng: random.Random, cards: int) -> None:
        """A card's limit is another one, or none; now and then a record is refused, or in a transaction that aborts."""
        self._cluster.ensure_topics([TopicSpec(TOPIC.topic, 1, {"cleanup.policy": "compact"})])
        card, top = f"c{rng.randrange(cards)}", rng.choice(_TOPS)
        if rng.random() < 0.1:
            self._append(card, rng.choice(_REFUSED))
        if rng.random() < 0.1:
            self._abort(card)
        self._append(card, None if top is None else json.dumps({"top": top}).encode())
        known = dict(self._states[-1])
        known.pop(card, None)
        self._note(known if top is None else known | {card: top})

    def _append(self, card: str, value: bytes | None) -> None:
        self._cluster.append([OutputRecords(TOPIC, [card.encode()], [value], self._cluster.clock.now_ms())], None)

    def _abort(self, card: str) -> None:
        owner = ("publisher", self._cluster.claim("publisher"))
        now = self._cluster.clock.now_ms()
        self._cluster.append([OutputRecords(TOPIC, [card.encode()], [b'{"top":0}'], now)], owner)
        self._cluster.end(*owner, commit=False)

    def _note(self, rows: dict[str, int]) -> None:
        self._ends.append(self._cluster.end_offset(TOPIC))
        self._states.append(rows)

    def followed(self, plans: Sequence[Plan]) -> bool:
        """Whether a worker looks up the newest, or will in its next batch."""
        for plan in plans:
            if plan.live is not None:
                waiting = plan.live._waiting.get(TOPIC.topic)
                known = dict(plan.live.versions).get(TOPIC.topic, -1) if waiting is None else waiting[1]
                if known < self._ends[-1]:
                    return False
        return True

    def rows(self, version: int) -> Mapping[str, int]:
        """What the table says by the records before an offset: limits by card."""
        return self._states[bisect_right(self._ends, version) - 1]

    def of(self, versions: Versions, offset: int, card: str) -> int | None:
        """A card's limit when the row at an offset was decided."""
        version = next(version for stop, version in versions if offset < stop)
        return self.rows(version).get(card)

    def table(self, schema: TableSchema, version: int) -> LookupTable:
        """For an engine."""
        rows = [{"card_id": card, "top": top * 100} for card, top in self.rows(version).items()]
        return LookupTable(schema.name, schema.key, schema.columns, rows)

    def versions(self, cluster: SimulatedCluster, plan: Plan, task: int) -> Versions:
        """By which tables a task has decided, by its journal; -1: none is named."""
        found = []
        for record in committed_records(cluster, TopicPartition(plan.topics.journal, task)):
            entry, _, _ = decode_entry(record.headers)
            found.append((entry.ranges[0].stop, dict(entry.tables).get(TOPIC.topic, -1)))
        return found

    def judge(self, plan: Plan, versions: Versions) -> list[str]:
        """A task never decides by an older table than it has before, wherever it was then."""
        read = [version for _, version in versions]
        if plan.live is None:
            return ["a table is journaled that there is not"] * any(version >= 0 for version in read)
        if read != sorted(read) or not all(0 <= version <= self._cluster.end_offset(TOPIC) for version in read):
            return [f"decided by tables of {read}, up to {self._ends[-1]}"]
        return []
