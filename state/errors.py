"""Errors, named by what happens next (their blast radius), not by where they arose.

    StreamprocError
    ├── ConfigError           refuse to start; says file, line, column and the nearest right name
    │   ├── StateBarrierError the state was written by another plan: refuse, and say where it lies
    │   ├── PartitionsChangedError  keys may have moved away from their state: the worker ends, in any case
    │   ├── InputGoneError    retention took what a replay needs: try a fresher checkpoint, else refuse
    │   └── StateLockedError  another process holds the task's state: wait a moment, then refuse
    ├── RecordError           one record becomes a dead letter, its neighbours go on
    ├── StateCorruptedError   discard the task's local state and restore it
    ├── StateDiskError        the disk of the state fails: exit, and say so; nothing is lost
    ├── BlobStoreError        a checkpoint could not be written or read: decide on, try again later
    │   └── BlobMissingError  there is no blob of that name
    └── EventLogError         the log failed; `retriable` says whether a new attempt can help
        ├── TaskMigratedError drop the batch without committing, follow the next assignment, go on
        └── FencedError       another process took our place: exit at once

No message holds a payload, a card number or a secret.
"""

from __future__ import annotations

__all__ = [
    "BlobMissingError",
    "BlobStoreError",
    "ConfigError",
    "EventLogError",
    "FencedError",
    "InputGoneError",
    "PartitionsChangedError",
    "Place",
    "RecordError",
    "StateBarrierError",
    "StateCorruptedError",
    "StateDiskError",
    "StateLockedError",
    "StreamprocError",
    "TaskMigratedError",
]

from typing import NamedTuple


class Place(NamedTuple):
    """Where in a user's file something stands; line and column count from 1 (0: unknown)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join(str(part) for part in self if part)


class StreamprocError(Exception):
    """Base of all errors raised on purpose."""

    retriable: bool = False


class ConfigError(StreamprocError):
    """The user's input cannot be run: nothing was started.

    Args:
        message: what is wrong, in one line.
        place: file, line and column, where known.
        hint: what to do, e.g. the nearest right name.
    """

    def __init__(self, message: str, place: Place | None = None, hint: str | None = None) -> None:
        self.message = message
        self.place = place
        self.hint = hint
        super().__init__(message, place, hint)

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")


class StateBarrierError(ConfigError):
    """No replay leads from the stored state to what the plan needs now."""


class InputGoneError(ConfigError):
    """The log does not have, or not any more, what a replay needs of the input."""

    def __init__(self, where: str, begin: int, needed: int) -> None:
        super().__init__(
            f"{where} begins at offset {begin}, but a replay needs {needed}",
            hint="restore the state directory from a copy, or start under a new pipeline name; "
            "and raise the topic's retention.ms",
        )


class PartitionsChangedError(ConfigError):
    """The input has another number of partitions than before: keys of any of them may have their state elsewhere."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            hint="a key's partition would change: undo the change of the topic, or see `streamproc repartition`",
        )


class RecordError(StreamprocError):
    """Records that cannot be decided; `reason` is a short stable code, `detail` never quotes a record.

    `rows`: their indices in the batch, if known; else the runtime finds them by bisection.
    """

    def __init__(self, reason: str, detail: str = "", rows: tuple[int, ...] = ()) -> None:
        self.reason = reason
        self.detail = detail
        self.rows = rows
        super().__init__(reason, detail)


class StateLockedError(ConfigError):
    """Another process holds a task's state; after a rebalance it may give it up in a moment."""


class StateCorruptedError(StreamprocError):
    """Local state fails its checks: discard it and restore. `task`: whose, where known."""

    task: int | None = None


class StateDiskError(StreamprocError):
    """Local state can be neither opened nor written, and waiting did not help; `reason` is the system's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the state's disk fails: {reason} (give it space or another --state, and start again)")


class BlobStoreError(StreamprocError):
    """The blob store failed an operation, which may have happened all the same; local state is unharmed.

    `retriable`: whether waiting can help (network, time-out, no space), or someone must act (permission).
    The message never quotes the store's answer, which may hold a signed address.
    """

    def __init__(self, message: str, *, retriable: bool = True) -> None:
        super().__init__(message)
        self.retriable = retriable


class BlobMissingError(BlobStoreError):
    """There is no blob of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no blob {name}", retriable=False)
        self.name = name


class EventLogError(StreamprocError):
    """The event log failed an operation; the open transaction must not be trusted."""

    def __init__(self, message: str, *, retriable: bool = False) -> None:
        super().__init__(message)
        self.retriable = retriable


class TaskMigratedError(EventLogError):
    """Our share of the group has changed, or our session is over; our identity is still ours.

    The batch is to be dropped and undone; the reader's next polls bring a new assignment. Always retriable.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, retriable=True)


class FencedError(EventLogError):
    """A newer owner of our identity exists; this process must exit and not rejoin."""
