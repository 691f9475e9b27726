# mypy: allow-subclassing-any
"""Who reads what: whole tasks (partition p of every topic), kept where they are, the same answer on every member."""

from __future__ import annotations

__all__ = ["Member", "TaskAssignor", "share_out"]

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from streamproc.eventlog.kafka._aiokafka import (
    AbstractPartitionAssignor,
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)


class Member(msgspec.Struct, frozen=True):
    """What a member tells the group's leader: who it is, and the tasks it has had since which generation."""

    identity: str
    generation: int = -1
    tasks: tuple[int, ...] = ()


class TaskAssignor(AbstractPartitionAssignor):
    """One object a reader (aiokafka's own sticky assignor keeps its state in the class, shared by all readers)."""

    name = "streamproc-tasks"

    def __init__(self, identity: str) -> None:
        self._member = Member(identity)
        self.generation = -1  # set by the coordinator before each assignment

    def metadata(self, topics: Iterable[str]) -> Any:
        """What goes into our JoinGroup."""
        return ConsumerProtocolMemberMetadata(0, sorted(topics), msgspec.json.encode(self._member))

    def on_assignment(self, assignment: Any) -> None:
        """Remember what we got, to claim it again."""
        tasks = tuple(sorted({tp.partition for tp in assignment.partitions()}))
        self._member = Member(self._member.identity, self.generation, tasks)

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """The leader's answer: member id -> assignment.

        A task goes to a member that knows all its topics. While a plan with a new topic rolls out, only the new
        members do; if none does, a member reads those of them that it knows.
        """
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        numbers = {topic: cluster.partitions_for_topic(topic) or set() for topic in topics}
        tasks = sorted(set().union(*numbers.values()))
        complete = {id_: m for id_, m in members.items() if set(m.subscription) >= set(topics)} or dict(members)
        shares = share_out(tasks, {id_: _read_member(id_, m.user_data) for id_, m in complete.items()})
        answer: dict[str, Any] = {}
        for id_, member in members.items():
            mine = [
                (topic, [task for task in shares.get(id_, ()) if task in numbers[topic]])
                for topic in sorted(member.subscription)
            ]
            answer[id_] = ConsumerProtocolMemberAssignment(0, [(topic, found) for topic, found in mine if found], b"")
        return answer


def _read_member(member_id: str, user_data: bytes) -> Member:
    try:
        return msgspec.json.decode(user_data, type=Member)
    except msgspec.MsgspecError:
        return Member(member_id)  # of an older version: it has no claims


def share_out(tasks: Sequence[int], members: Mapping[str, Member]) -> dict[str, list[int]]:
    """Member id -> tasks: as even as can be, moving as few as can be; a function of its arguments alone.

    >>> share_out([0, 1, 2], {"x": Member("a", 1, (0, 1, 2)), "y": Member("b")})
    {'x': [0, 1], 'y': [2]}
    """
    # Of two claims to a task the later generation's holds; the identity, not the random member id, breaks ties.
    claims = sorted(members, key=lambda id_: (-members[id_].generation, members[id_].identity, id_))
    free = set(tasks)
    kept: dict[str, list[int]] = {}
    for id_ in claims:
        kept[id_] = sorted(free.intersection(members[id_].tasks))
        free.difference_update(kept[id_])
    # Who has most keeps one more, if the tasks do not divide evenly.
    order = sorted(members, key=lambda id_: (-len(kept[id_]), members[id_].identity, id_))
    base, more = divmod(len(tasks), len(order))
    quota = {id_: base + (rank < more) for rank, id_ in enumerate(order)}
    for id_ in order:
        free.update(kept[id_][quota[id_] :])
        del kept[id_][quota[id_] :]
    rest = iter(sorted(free))
    for id_ in sorted(order, key=lambda id_: (members[id_].identity, id_)):
        kept[id_] = sorted(kept[id_] + [next(rest) for _ in range(quota[id_] - len(kept[id_]))])
    return {id_: kept[id_] for id_ in sorted(kept)}
