"""Sharing tasks out: whole, even, sticky, the same everywhere."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamproc.eventlog.kafka._aiokafka import ConsumerProtocolMemberMetadata
from streamproc.eventlog.kafka.assignor import Member, TaskAssignor, share_out

MEMBERS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(
        Member,
        st.text("wxyz", min_size=1, max_size=2),
        st.integers(-1, 3),
        st.lists(st.integers(0, 40), max_size=8).map(tuple),
    ),
    min_size=1,
    max_size=6,
)


class Cluster:
    def __init__(self, **topics: int) -> None:
        self.topics = topics

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self.topics[topic])) if topic in self.topics else None


def joined(assignor: TaskAssignor, *topics: str) -> Any:
    return ConsumerProtocolMemberMetadata.decode(assignor.metadata(topics).encode())


@given(MEMBERS, st.integers(0, 32))
def test_each_task_once_and_evenly(members: dict[str, Member], tasks: int) -> None:
    shares = share_out(range(tasks), members)
    assert sorted(task for share in shares.values() for task in share) == list(range(tasks))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(MEMBERS, st.integers(0, 32))
def test_the_order_of_members_does_not_matter(members: dict[str, Member], tasks: int) -> None:
    assert share_out(range(tasks), dict(reversed(members.items()))) == share_out(range(tasks), members)


@given(MEMBERS, st.integers(0, 32))
def test_nothing_moves_without_need(members: dict[str, Member], tasks: int) -> None:
    first = share_out(range(tasks), members)
    again = {id_: Member(members[id_].identity, 9, tuple(first[id_])) for id_ in members}
    assert share_out(range(tasks), again) == first


@given(MEMBERS, st.integers(0, 32))
def test_a_newcomer_gets_only_its_part(members: dict[str, Member], tasks: int) -> None:
    first = share_out(range(tasks), members)
    again = {id_: Member(members[id_].identity, 9, tuple(first[id_])) for id_ in members} | {"new": Member("new")}
    shares = share_out(range(tasks), again)
    assert all(set(shares[id_]) <= set(first[id_]) for id_ in members)


def test_of_two_claims_the_later_holds() -> None:
    shares = share_out([0, 1], {"x": Member("a", 3, (0, 1)), "y": Member("b", 4, (1,))})
    assert shares == {"x": [0], "y": [1]}


def test_a_task_is_a_partition_of_all_topics() -> None:
    one, two = TaskAssignor("w1"), TaskAssignor("w2")
    members = {"m1": joined(one, "pay", "login"), "m2": joined(two, "pay", "login")}
    answer = one.assign(Cluster(pay=4, login=2), members)
    assert answer["m1"].assignment == [("login", [0, 1]), ("pay", [0, 1])]
    assert answer["m2"].assignment == [("pay", [2, 3])]


def test_stickiness_goes_over_the_wire() -> None:
    one, two = TaskAssignor("w1"), TaskAssignor("w2")
    first = one.assign(Cluster(pay=4), {"m1": joined(one, "pay")})
    one.generation = 1
    one.on_assignment(first["m1"])
    answer = two.assign(Cluster(pay=4), {"m1": joined(one, "pay"), "m2": joined(two, "pay")})
    assert answer["m1"].assignment == [("pay", [0, 1])]
    assert answer["m2"].assignment == [("pay", [2, 3])]


def test_a_new_topic_goes_to_members_that_know_it() -> None:
    old, new = TaskAssignor("w1"), TaskAssignor("w2")
    members = {"m1": joined(old, "pay"), "m2": joined(new, "pay", "labels")}
    answer = old.assign(Cluster(pay=2, labels=2), members)
    assert answer["m1"].assignment == []
    assert answer["m2"].assignment == [("labels", [0, 1]), ("pay", [0, 1])]
