"""Row stores for tests, and a way to run every test over both kinds."""

from __future__ import annotations

import random
from pathlib import Path

from state.memory import MemoryDisk, MemoryRowStores
from state.rocksdb import RocksRowStores
from state.rowstore import RowStores


def make_stores(kind: str, directory: Path) -> RowStores:
    if kind == "memory":
        return MemoryRowStores(MemoryDisk(random.Random(1)))
    return RocksRowStores(directory, sync=False)
