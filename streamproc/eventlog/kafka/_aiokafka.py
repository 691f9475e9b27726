"""The one door to aiokafka: everything we take from it, checked when it is taken.

Half of these names are private. They are what stands between aiokafka's public classes, which are thin glue, and
what we need: fenced offsets, stable offset fetches, whole record batches. So we put the parts together ourselves
(no attribute of aiokafka is ever replaced), pin the minor version, and refuse any other one here.
"""

from __future__ import annotations

__all__ = [
    "INTEGER_MAX_VALUE",
    "AIOKafkaClient",
    "AbstractPartitionAssignor",
    "AddOffsetsToTxnHandler",
    "AddPartitionsToTxnHandler",
    "Array",
    "Boolean",
    "CloseReason",
    "CompactArray",
    "CompactString",
    "ConnectionGroup",
    "ConsumerProtocolMemberAssignment",
    "ConsumerProtocolMemberMetadata",
    "ConsumerRebalanceListener",
    "CoordinationType",
    "CreateTopicsRequest",
    "DefaultRecordBatchBuilder",
    "DescribeConfigsRequest",
    "EndTxnHandler",
    "FetchError",
    "Fetcher",
    "GroupCoordinator",
    "HeartbeatRequest",
    "InitPIDHandler",
    "Int16",
    "Int32",
    "Int64",
    "MessageAccumulator",
    "MetadataRequest",
    "OffsetAndMetadata",
    "OffsetRequest",
    "Request",
    "RequestStruct",
    "Response",
    "Schema",
    "Sender",
    "String",
    "Struct",
    "SubscriptionState",
    "TaggedFields",
    "TransactionManager",
    "TransactionState",
    "TxnOffsetCommitHandler",
    "check",
    "errors",
]

import aiokafka
from aiokafka import errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.conn import CloseReason
from aiokafka.consumer.fetcher import Fetcher, FetchError
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    EndTxnHandler,
    InitPIDHandler,
    Sender,
    TxnOffsetCommitHandler,
)
from aiokafka.producer.transaction_manager import TransactionManager, TransactionState
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata
from aiokafka.util import INTEGER_MAX_VALUE

_VERSION = "0.14."


def check() -> None:
    """Refuse to run on what was not tested.

    Raises:
        RuntimeError: another version; no Cython extensions (aiokafka falls back silently, 20-200 times slower); or
            `python -O`, which removes the asserts that aiokafka's transaction states are made of.
    """
    if not aiokafka.__version__.startswith(_VERSION):
        raise RuntimeError(
            f"aiokafka {_VERSION}x is needed, found {aiokafka.__version__}: pip install 'aiokafka==0.14.*'"
        )
    for part in (DefaultRecordBatch, DefaultRecordBatchBuilder, MemoryRecords):
        if "_crecords" not in part.__module__:
            raise RuntimeError(
                f"aiokafka's Cython extensions are missing ({part.__name__} is pure Python): reinstall it"
            )
    if not __debug__:
        raise RuntimeError("aiokafka's transaction states are assert statements: do not run python -O")


check()
