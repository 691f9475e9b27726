"""A worker's identity is its pod's name and its index: two processes with one state directory must not share it.

Group and transactions fence by identity, so a second start by mistake would end the first worker, and then fail
itself on the state that the first one still held. The lock is taken before anything is claimed from the log; the
kernel gives it back however the process ends.
"""

from __future__ import annotations

__all__ = ["hold_identity"]

import fcntl
import os
from pathlib import Path
from urllib.parse import quote

from state.errors import ConfigError


def hold_identity(directory: Path, instance: str, index: int) -> int:
    """Lock the identity in `directory`, made if missing; close the descriptor to give it back. Blocks: for a thread.

    Raises:
        ConfigError: another process has it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"worker-{quote(instance, safe='')[:200]}-{index}.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise ConfigError(
            f"worker {index} of {instance} in {directory} runs already: it is held by process {holder}",
            hint="stop that one, or give this one an instance name and a state directory of its own",
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd
