"""What `state checkpoints` and `state verify` read of a checkpoint store; nothing in it changes."""

from __future__ import annotations

__all__ = ["CheckpointLook", "check_checkpoints", "existing_checkpoints", "look_at_checkpoints"]

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from operators.plan import Plan
from state.checkpoint import Checkpoints
from state.errors import ConfigError, StateCorruptedError
from state.objectstore import open_blobs


class CheckpointLook(msgspec.Struct):
    """One checkpoint of a task; `time` when it was written, by the store's clock, ISO 8601 in UTC.

    `plan`: whether its state fingerprint is the pipeline's; `unreadable`: why it is of no use, then the rest is None.
    """

    stage: str
    task: int
    name: str
    sequence: int | None = None
    position: int | None = None
    plan: bool | None = None
    files: int | None = None
    bytes: int | None = None
    time: str | None = None
    unreadable: str | None = None


def existing_checkpoints(plan: Plan, url: str) -> Checkpoints:
    """The stage's checkpoints at `url`; a directory is not made.

    Raises:
        ConfigError: the address cannot be used.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme == "file":
        directory = Path((rest if colon else url).removeprefix("//"))
        if not directory.is_dir():
            raise ConfigError(f"--checkpoints: there is no directory {directory}", hint="`run --checkpoints` makes it")
    return Checkpoints(open_blobs(url), plan.home)


def look_at_checkpoints(plan: Plan, checkpoints: Checkpoints) -> Iterator[CheckpointLook]:
    """By task, newest first.

    Raises:
        BlobStoreError: the store cannot be asked.
    """
    for task in checkpoints.tasks():
        listing, times = checkpoints.checkpoints(task), checkpoints.written_ms(task)
        looks = [
            CheckpointLook(
                plan.stage, task, found.name, found.cut.sequence, found.cut.position,
                found.cut.state_fingerprint == plan.state_fingerprint, len(found.files), found.bytes_total,
            )
            for found in listing.found
        ]  # fmt: skip
        looks += [CheckpointLook(plan.stage, task, bad.name, unreadable=bad.reason) for bad in listing.unreadable]
        for look in sorted(looks, key=lambda look: look.name, reverse=True):
            if look.name in times:
                look.time = datetime.fromtimestamp(times[look.name] / 1000, UTC).isoformat(timespec="seconds")
            yield look


def check_checkpoints(checkpoints: Checkpoints) -> Iterator[tuple[str, list[str]]]:
    """Each checkpoint by name, and what is wrong with it; reads all of its files.

    Raises:
        BlobStoreError: the store cannot be asked.
    """
    for task in checkpoints.tasks():
        listing = checkpoints.checkpoints(task)
        for manifest in listing.found:
            wrong = []
            try:
                checkpoints.verify(manifest)
            except StateCorruptedError as error:
                wrong.append(str(error))
            yield f"checkpoint {manifest.name} of task {task}", wrong
        for bad in listing.unreadable:
            yield f"checkpoint {bad.name} of task {task}", [bad.reason]
