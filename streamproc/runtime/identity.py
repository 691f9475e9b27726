"""A worker's identity is its pod's name and its index: two processes with one state directory must not share it.

Group and transactions fence by identity, so a second start by mistake would end the first worker, and then fail
itself on the state that the first one still held. Two locks are taken before anything is claimed from the log: one
for the whole `run` (by its parent; by the worker itself where there is only one), for two runs with different numbers
of workers would each get some of the identities and end each other; and one for each worker. The kernel gives them
back however a process ends.
"""

from __future__ import annotations

__all__ = ["hold_identity", "hold_run"]

import contextlib
import fcntl
import os
from pathlib import Path
from urllib.parse import quote

from state.errors import ConfigError


def hold_run(directory: Path, instance: str, run: int) -> int:
    """Lock all identities of an instance for the `run` whose process id is `run`; else as `hold_identity`.

    Raises:
        ConfigError: another run has them, or the directory cannot be written.
    """
    return _lock(
        directory / f"run-{_quoted(instance)}.lock", run, f"a run of instance {instance} in {directory} goes on already"
    )


def hold_identity(directory: Path, instance: str, index: int) -> int:
    """Lock the identity in `directory`, made if missing; close the descriptor to give it back. Blocks: for a thread.

    Raises:
        ConfigError: another process has it, or the directory cannot be written.
    """
    what = f"worker {index} of {instance} in {directory} runs already"
    return _lock(directory / f"worker-{_quoted(instance)}-{index}.lock", os.getpid(), what)


def _lock(path: Path, holder: int, what: str) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(
            f"--state: {path} cannot be used: {error.strerror}",
            hint="let this user write there, or name another --state",
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise ConfigError(
            f"{what}: it is held by process {other}",
            hint="stop that one, or give this one an --instance and a --state of its own",
        ) from None
    with contextlib.suppress(OSError):  # a full disk: we hold it, whether it says so or not
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(holder).encode(), 0)
    return fd


def _quoted(instance: str) -> str:
    return quote(instance, safe="")[:200]
