# mypy: allow-subclassing-any
"""Kafka's wire protocol where aiokafka stops short: the versions that carry a member's identity.

TxnOffsetCommit v3 and OffsetFetch v7 are KIP-447 (fenced offsets, stable fetches); Heartbeat v3 and LeaveGroup v3 are
KIP-345 (static members). One version each: an older one would silently lose the fencing, so a broker without them is
refused (all are in Kafka 2.5 and later).
"""

from __future__ import annotations

__all__ = [
    "FENCED_INSTANCE_ID",
    "Membership",
    "fenced_commit",
    "stable_fetch",
    "static_heartbeat",
    "static_leave",
]

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.eventlog.kafka._aiokafka import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Request,
    RequestStruct,
    Response,
    Schema,
    String,
    TaggedFields,
)

FENCED_INSTANCE_ID = 82

_TEXT = String("utf-8")
_COMPACT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


class Membership(NamedTuple):
    """A member's place in its group, as snapshotted when partitions were assigned.

    Never read the live values at commit time: a rebalance in the background would stamp old work with the new
    generation, and after a reset they are (-1, ""), which a broker takes without any check.
    """

    group: str
    generation: int
    member_id: str
    instance: str | None


class _TxnOffsetCommitResponse(Response):
    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", _COMPACT),
                ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _TxnOffsetCommitRequest(RequestStruct):
    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TxnOffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", _COMPACT),
        ("group_id", _COMPACT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _COMPACT),
        ("group_instance_id", _COMPACT),
        (
            "topics",
            CompactArray(
                ("topic", _COMPACT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _COMPACT), _TAGS
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _OffsetFetchResponse(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _COMPACT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _COMPACT),
                        ("error_code", Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    )


class _OffsetFetchRequest(RequestStruct):
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetFetchResponse
    SCHEMA = Schema(
        ("group_id", _COMPACT),
        ("topics", CompactArray(("topic", _COMPACT), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class _HeartbeatResponse(Response):
    API_KEY = 12
    API_VERSION = 3
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16))


class _HeartbeatRequest(RequestStruct):
    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = _HeartbeatResponse
    SCHEMA = Schema(("group", _TEXT), ("generation_id", Int32), ("member_id", _TEXT), ("group_instance_id", _TEXT))


class _LeaveGroupResponse(Response):
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("members", Array(("member_id", _TEXT), ("group_instance_id", _TEXT), ("error_code", Int16))),
    )


class _LeaveGroupRequest(RequestStruct):
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveGroupResponse
    SCHEMA = Schema(("group", _TEXT), ("members", Array(("member_id", _TEXT), ("group_instance_id", _TEXT))))


def _set_fields(self: Any, *fields: object) -> None:
    self.fields = fields


def _build(self: Any, struct: Any) -> Any:
    return struct(*self.fields)


# One struct a request: aiokafka's negotiation then has no older version to fall back to.
class _FencedCommit(Request[_TxnOffsetCommitRequest]):
    API_KEY = 28
    __init__, build = _set_fields, _build


class _StableFetch(Request[_OffsetFetchRequest]):
    API_KEY = 9
    __init__, build = _set_fields, _build


class _StaticHeartbeat(Request[_HeartbeatRequest]):
    API_KEY = 12
    __init__, build = _set_fields, _build


class _StaticLeave(Request[_LeaveGroupRequest]):
    API_KEY = 13
    __init__, build = _set_fields, _build


def fenced_commit(
    transactional_id: str,
    producer: tuple[int, int],
    member: Membership,
    offsets: Mapping[TopicPartition, CommittedOffset],
) -> Any:
    """Offsets for an open transaction; `producer` is (id, epoch)."""
    by_topic: dict[str, list[tuple[int, int, int, str, dict[int, bytes]]]] = defaultdict(list)
    for (topic, partition), (offset, metadata) in sorted(offsets.items()):
        by_topic[topic].append((partition, offset, -1, metadata, {}))
    topics: list[Any] = [(topic, partitions, {}) for topic, partitions in by_topic.items()]
    return _FencedCommit(
        transactional_id, member.group, *producer, member.generation, member.member_id, member.instance, topics, {}
    )


def stable_fetch(group: str, partitions: Iterable[TopicPartition]) -> Any:
    """Committed offsets, refused (88) while a transaction holds pending ones."""
    by_topic: dict[str, list[int]] = defaultdict(list)
    for topic, partition in partitions:
        by_topic[topic].append(partition)
    return _StableFetch(group, [(topic, numbers, {}) for topic, numbers in by_topic.items()], True, {})


def static_heartbeat(member: Membership) -> Any:
    """With the instance id the broker tells a replaced member (82) from an expired one (25)."""
    return _StaticHeartbeat(*member)


def static_leave(member: Membership) -> Any:
    """Give up a static membership now, rather than after the session time-out."""
    return _StaticLeave(member.group, [(member.member_id, member.instance)])
