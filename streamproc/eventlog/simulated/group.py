"""A consumer group as its coordinator knows it: static members, eager rebalances, generations.

    STABLE ── join, leave, session over ──> PREPARING ── all have rejoined, or time is over ──> STABLE, generation + 1

While PREPARING the old generation may still commit (that is what `on_revoked` waits for). A member that comes back
under its instance name takes its predecessor's place without a rebalance, and so fences it.
"""

from __future__ import annotations

__all__ = ["Group", "SimulatedMembership"]

import random as randomness
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from state.errors import FencedError, TaskMigratedError
from streamproc.eventlog.contract import CommittedOffset, TopicPartition


class SimulatedMembership(NamedTuple):
    """See `contract.Membership`."""

    group: str
    generation: int
    instance: str
    member_id: int


class _Member(msgspec.Struct):
    member_id: int
    topics: tuple[str, ...]
    assigned: frozenset[TopicPartition] = frozenset()


class Group:
    """Members, assignment and committed offsets of one group.

    Args:
        later: calls a function after the rebalance time-out.
        changed: wakes whoever waits.
    """

    def __init__(
        self,
        name: str,
        partitions: Mapping[str, int],
        random: randomness.Random,
        later: Callable[[Callable[[], None]], None],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.generation = 0
        self.offsets: dict[TopicPartition, CommittedOffset] = {}
        self._partitions = partitions
        self._random = random
        self._later = later
        self._changed = changed
        self._members: dict[str, _Member] = {}
        self._awaited: set[str] = set()
        self._rounds = 0
        self._last_id = 0

    def join(self, instance: str, topics: tuple[str, ...]) -> int:
        """Become the member `instance`; the id tells us from predecessors and successors."""
        self._last_id += 1
        old = self._members.get(instance)
        if old is not None and old.topics == topics:
            old.member_id = self._last_id
            self._rejoined(instance)
        else:
            self._members[instance] = _Member(self._last_id, topics)
            self._prepare()
            self._rejoined(instance)
        return self._last_id

    def leave(self, instance: str, member_id: int) -> None:
        """Give the place up, or lose it because the session is over; a successor keeps it."""
        if self.holds(instance, member_id):
            del self._members[instance]
            self._prepare()

    def holds(self, instance: str, member_id: int) -> bool:
        """False: no longer a member.

        Raises:
            FencedError: another process has the place.
        """
        member = self._members.get(instance)
        if member is not None and member.member_id > member_id:
            raise FencedError(f"member {instance} of group {self.name}: another process has joined in our place")
        return member is not None

    def awaits(self, instance: str) -> bool:
        """Whether a rebalance waits for this member to give up its partitions."""
        return instance in self._awaited

    def rejoin(self, instance: str) -> None:
        """The member has given up its partitions."""
        self._rejoined(instance)

    @property
    def preparing(self) -> bool:
        """Whether a rebalance goes on."""
        return bool(self._awaited)

    def assignment(self, instance: str) -> frozenset[TopicPartition]:
        """The member's partitions in the current generation."""
        return self._members[instance].assigned

    def check(self, membership: SimulatedMembership) -> None:
        """Nothing, if it is a member of the current generation.

        Raises:
            FencedError: another process has the place.
            TaskMigratedError: the session or the generation is over.
        """
        _, generation, instance, member_id = membership
        if not self.holds(instance, member_id) or generation != self.generation:
            raise TaskMigratedError(f"member {instance} of group {self.name}: generation {generation} is over")

    def _prepare(self) -> None:
        self._awaited = set(self._members)
        self._rounds += 1
        this_round = self._rounds
        self._later(lambda: self._give_up(this_round))
        if not self._members:
            self.generation += 1
        self._changed()

    def _give_up(self, this_round: int) -> None:
        """Members that did not give up their partitions in time lose their place."""
        if self._rounds == this_round and self._awaited:
            for instance in self._awaited:
                del self._members[instance]
            self._awaited = set()
            self._assign()

    def _rejoined(self, instance: str) -> None:
        if instance in self._awaited:
            self._awaited.discard(instance)
            if not self._awaited:
                self._assign()

    def _assign(self) -> None:
        """Partition p of all topics goes to one member; who gets which changes with every generation."""
        self.generation += 1
        order = sorted(self._members)
        self._random.shuffle(order)
        for place, instance in enumerate(order):
            member = self._members[instance]
            member.assigned = frozenset(
                TopicPartition(topic, partition)
                for topic in member.topics
                for partition in range(place, self._partitions.get(topic, 0), len(order))
            )
        self._changed()
