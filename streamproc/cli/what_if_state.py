"""The state that `what-if` begins with: checkpoints, copied into a directory of its own. All calls block."""

from __future__ import annotations

__all__ = ["Origins", "Start"]

import shutil
from pathlib import Path
from typing import NamedTuple

import structlog

from operators.plan import Plan
from state.checkpoint import Checkpoints
from state.errors import StateCorruptedError
from state.manifest import Manifest
from state.rocksdb import RocksRowStores
from state.rowstore import RowStore
from streamproc.cli.checkpoint_looks import existing_checkpoints
from streamproc.cli.replay_files import NothingStored
from streamproc.runtime.stored_state import LocalMeta


class Start(NamedTuple):
    """A task's state. `meta`: the journal record that it is of, `written_ms`: when; both None: it is empty."""

    store: RowStore
    meta: LocalMeta | None
    written_ms: int | None


class Origins:
    """Finds what tasks begin with. `address`: of checkpoints; None: there are none."""

    def __init__(self, plan: Plan, address: str | None, directory: Path) -> None:
        """Raises ConfigError if the address cannot be used."""
        self._fingerprint, self._directory = plan.state_fingerprint, directory
        self._checkpoints: Checkpoints | None = None if address is None else existing_checkpoints(plan, address)
        self._stores = RocksRowStores(directory / "state")
        self._logger = structlog.get_logger("what-if")

    def find(self, task: int, since_ms: int, *, whole: bool) -> Start:
        """The newest checkpoint of this plan's state that was written before; else nothing, if the log is `whole`; else
        the oldest that was written since; else nothing.

        Raises:
            BlobStoreError: the store cannot be asked.
        """
        if self._checkpoints is not None:
            written = self._checkpoints.written_ms(task)
            fits = [
                manifest
                for manifest in self._checkpoints.checkpoints(task).found
                if manifest.cut.state_fingerprint == self._fingerprint and manifest.name in written
            ]
            before = [manifest for manifest in fits if written[manifest.name] <= since_ms]
            since = [] if whole else fits[: len(fits) - len(before)]
            for manifest in [*before, *reversed(since)]:
                if (store := self._restored(task, manifest)) is not None:
                    return Start(store, LocalMeta.decode(manifest.cut.meta), written[manifest.name])
        return Start(NothingStored(), None, None)

    def _restored(self, task: int, manifest: Manifest) -> RowStore | None:
        assert self._checkpoints is not None
        work = self._directory / f"task-{task}"
        try:
            self._checkpoints.restore(manifest, work)
            self._stores.install(task, work / "db")
            return self._stores.look(task)
        except StateCorruptedError as error:
            self._logger.error("checkpoint passed over: it is damaged", task=task, reason=str(error))
            return None
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def close(self) -> None:
        """Close every store."""
        self._stores.close()
