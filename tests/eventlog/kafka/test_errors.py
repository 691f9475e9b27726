"""Every error of aiokafka has its blast radius."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import errors as theirs

from state.errors import EventLogError, FencedError, RecordError, TaskMigratedError
from streamproc.eventlog.kafka.errors import (
    FENCED,
    MIGRATED,
    PERMANENT,
    RETRIABLE,
    FencedInstanceError,
    MembershipOverError,
    to_ours,
    translated,
)


def walk(cls: type[BaseException]) -> Iterator[type[BaseException]]:
    yield cls
    for child in cls.__subclasses__():
        yield from walk(child)


def all_errors() -> set[type[BaseException]]:
    named = {cls for cls in vars(theirs).values() if isinstance(cls, type) and issubclass(cls, Exception)}
    return named | set(walk(theirs.KafkaError))


def test_every_class_stands_in_exactly_one_set() -> None:
    kinds = (FENCED, MIGRATED, RETRIABLE, PERMANENT)
    places = {cls.__name__: [cls.__name__ in kind for kind in kinds] for cls in all_errors()}
    assert {name: sum(found) for name, found in places.items() if sum(found) != 1} == {}


def test_the_sets_name_nothing_else() -> None:
    assert (FENCED | MIGRATED | RETRIABLE | PERMANENT) - {cls.__name__ for cls in all_errors()} == set()


def test_what_aiokafka_retries_is_retriable() -> None:
    assert {cls.__name__ for cls in all_errors() if getattr(cls, "retriable", False)} <= RETRIABLE


@pytest.mark.parametrize(
    ("error", "kind", "retriable"),
    [
        (theirs.ProducerFenced(), FencedError, False),
        (FencedInstanceError(), FencedError, False),
        (MembershipOverError(), TaskMigratedError, True),
        (theirs.IllegalGenerationError(), TaskMigratedError, True),
        (theirs.UnknownMemberIdError(), TaskMigratedError, True),
        (theirs.NotLeaderForPartitionError(), EventLogError, True),
        (theirs.MessageSizeTooLargeError(), EventLogError, False),
        (TimeoutError(), EventLogError, True),
        (ConnectionResetError(), EventLogError, True),
        (AssertionError("state"), EventLogError, True),
        (ValueError("bug"), EventLogError, False),
    ],
)
def test_what_becomes_of_it(error: Exception, kind: type[EventLogError], retriable: bool) -> None:
    ours = to_ours(error, "appending")
    assert type(ours) is kind
    assert ours.retriable is retriable


def test_no_foreign_text_is_quoted() -> None:
    ours = to_ours(theirs.KafkaError("4111 1111 1111 1111"), "appending")
    assert "4111" not in str(ours)
    assert "appending" in str(ours)


def test_ours_and_cancellation_pass() -> None:
    with pytest.raises(RecordError), translated("x"):
        raise RecordError("bad")
    with pytest.raises(asyncio.CancelledError), translated("x"):
        raise asyncio.CancelledError
