# mypy: allow-subclassing-any
# ruff: noqa: SIM905  # names in columns, not a list of a line each
"""aiokafka's errors in our terms, by blast radius.

Each class stands in exactly one of the four sets; a test walks all of aiokafka's and fails on a new one. What is
retriable means: with a new reader or writer. No argument of a foreign error is quoted: it might hold anything.
"""

from __future__ import annotations

__all__ = [
    "FENCED",
    "MIGRATED",
    "PERMANENT",
    "RETRIABLE",
    "FencedInstanceError",
    "MembershipOverError",
    "to_ours",
    "translated",
]

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from state.errors import EventLogError, FencedError, StreamprocError, TaskMigratedError
from streamproc.eventlog.kafka._aiokafka import errors as theirs


class MembershipOverError(theirs.KafkaError):
    """The broker refused offsets: a rebalance has ended their generation (22), or the member's session is over (25)."""


class FencedInstanceError(theirs.KafkaError):
    """Another process joined with our group.instance.id (82, unknown to aiokafka)."""


FENCED = frozenset({"FencedInstanceError", "InvalidProducerEpoch", "ProducerFenced"})
"""A newer owner of our group.instance.id or of our transactional id."""

MIGRATED = frozenset({"IllegalGenerationError", "MembershipOverError", "UnknownMemberIdError"})
"""The group went on without us, nobody has our identity."""

RETRIABLE = frozenset(
    """
    BrokerNotAvailableError Cancelled CommitFailedError ConcurrentTransactions ConsumerStoppedError CorrelationIdError
    CorruptRecordException DuplicateSequenceNumber FetchSessionIdNotFound GroupCoordinatorNotAvailableError
    GroupLoadInProgressError InvalidFetchSessionEpoch InvalidProducerIdMapping InvalidTxnState KafkaConnectionError
    KafkaError KafkaProtocolError KafkaStorageError KafkaTimeoutError KafkaUnavailableError LeaderNotAvailableError
    ListenerNotFound MemberIdRequired MetadataEmptyBrokerList NoBrokersAvailable NodeNotReadyError NotControllerError
    NotCoordinatorForGroupError NotEnoughReplicasAfterAppendError NotEnoughReplicasError NotLeaderForPartitionError
    OperationNotAttempted OutOfOrderSequenceNumber ProducerClosed QuotaViolationError ReassignmentInProgress
    RebalanceInProgressError ReplicaNotAvailableError RequestTimedOutError StaleControllerEpochError
    StaleLeaderEpochCodeError StaleMetadata TooManyInFlightRequests TransactionCoordinatorFenced UnknownError
    UnknownProducerId UnknownTopicOrPartitionError
    """.split()
)

PERMANENT = frozenset(
    """
    AuthenticationFailedError AuthenticationMethodNotSupported BrokerResponseError ClusterAuthorizationFailedError
    DelegationTokenAuthDisabled DelegationTokenAuthorizationFailed DelegationTokenExpired DelegationTokenNotFound
    DelegationTokenOwnerMismatch DelegationTokenRequestNotAllowed GroupAuthorizationFailedError GroupIdNotFound
    IllegalArgumentError IllegalOperation IllegalSaslStateError IllegalStateError IncompatibleBrokerVersion
    InconsistentGroupProtocolError InvalidCommitOffsetSizeError InvalidConfigurationError InvalidFetchRequestError
    InvalidGroupIdError InvalidPartitionsError InvalidPrincipalType InvalidReplicationAssignmentError
    InvalidReplicationFactorError InvalidRequestError InvalidRequiredAcksError InvalidSessionTimeoutError
    InvalidTimestampError InvalidTopicError InvalidTransactionTimeout KafkaConfigurationError LogDirNotFound
    MessageSizeTooLargeError NoError NoOffsetForPartitionError NonEmptyGroup OffsetMetadataTooLargeError
    OffsetOutOfRangeError PolicyViolationError RecordListTooLargeError RecordTooLargeError SaslAuthenticationFailed
    SecurityDisabled TopicAlreadyExistsError TopicAuthorizationFailedError TransactionalIdAuthorizationFailed
    UnrecognizedBrokerVersion UnsupportedCodecError UnsupportedForMessageFormatError UnsupportedSaslMechanismError
    UnsupportedVersionError
    """.split()
)

_HINTS = {
    "MessageSizeTooLargeError": "raise the topic's max.message.bytes, or make the records smaller",
    "RecordListTooLargeError": "raise the topic's segment.bytes",
    "OffsetOutOfRangeError": "the records are gone: retention is shorter than what must be read again",
    "TopicAuthorizationFailedError": "grant READ or WRITE on the topic",
    "GroupAuthorizationFailedError": "grant READ on the group",
    "TransactionalIdAuthorizationFailed": "grant WRITE on the transactional id",
    "ClusterAuthorizationFailedError": "grant IDEMPOTENT_WRITE or CREATE on the cluster",
    "InvalidTransactionTimeout": "lower transaction_timeout_ms, or raise the broker's transaction.max.timeout.ms",
    "InvalidSessionTimeoutError": "session_timeout_ms must lie within the broker's group.*.session.timeout.ms",
    "InvalidReplicationFactorError": "set replication_factor to at most the number of brokers",
    "InconsistentGroupProtocolError": "the group has members of another program or version",
    "UnknownTopicOrPartitionError": "create the topic, or wait until it is known everywhere",
    "NotImplementedError": "the broker is too old: Kafka 2.5 or newer is needed",
}


def to_ours(error: BaseException, doing: str) -> EventLogError:
    """The error to raise instead of `error`, which came up while `doing` something."""
    names = [cls.__name__ for cls in type(error).__mro__]
    name = names[0]
    code = getattr(error, "message", "") if isinstance(error, theirs.BrokerResponseError) else ""
    hint = _HINTS.get(name, "")
    text = f"Kafka: {doing}: {code or name}" + (f" ({hint})" if hint else "")
    for known in names:  # the nearest class that stands in a set decides
        if known in FENCED:
            return FencedError(text)
        if known in MIGRATED:
            return TaskMigratedError(text)
        if known in RETRIABLE:
            return EventLogError(text, retriable=True)
        if known in PERMANENT:
            return EventLogError(text)
    # Time-outs and sockets heal; an AssertionError is aiokafka's state machine, which a new writer has afresh.
    return EventLogError(text, retriable=isinstance(error, OSError | asyncio.TimeoutError | AssertionError))


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Let only our errors out of the block; cancellation passes."""
    try:
        yield
    except StreamprocError:
        raise
    except Exception as error:
        raise to_ours(error, doing) from error
