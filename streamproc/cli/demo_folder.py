"""The demo's folder: what lies in it, that only one demo uses it, and that nothing else is ever deleted."""

from __future__ import annotations

__all__ = ["DemoFolder"]

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO, Self

from state.errors import ConfigError

_MARK = ".streamproc-demo"


class DemoFolder:
    """The paths; as a context it is locked, and empty of what an earlier demo left.

    Raises:
        ConfigError: there are other files in it, it cannot be made, or another demo runs there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self.state = path / "state"
        self.payments = path / "transactions.parquet"
        self.account_events = path / "account_events.parquet"
        self.labels = path / "labels.parquet"
        self.decisions = path / "decisions.ndjson"
        self.summary = path / "summary.json"
        self.worker_log = path / "worker.log"
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            foreign = self.path.is_dir() and any(self.path.iterdir()) and not (self.path / _MARK).exists()
            if foreign:
                raise ConfigError(f"{self.path} holds other files", hint="name an empty folder with --dir")
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / _MARK, "ab")
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be used: {error.strerror}", hint="name another --dir") from None
        self._hold()
        self._start_over()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def _hold(self) -> None:
        if os.name != "posix":
            return
        import fcntl

        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(f"another demo runs in {self.path}", hint="name another --dir") from None

    def _start_over(self) -> None:
        for directory in (self.log, self.state):
            shutil.rmtree(directory, ignore_errors=True)
        files = (self.payments, self.account_events, self.labels, self.decisions, self.summary, self.worker_log)
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
        (self.path / ".gitignore").write_text("*\n")
