"""`streamproc run` with RocksDB's block cache at 16 MiB, not 256: what grows until it is full is full within minutes.

`python -m tests.soak.small_cache PIPELINE --log URL ...`; the worker is its fork.
"""

from __future__ import annotations

import sys

from state.rocksdb import RocksRowStores
from streamproc.cli.main import run_command

_SIZES = {"cache_bytes": 16 << 20, "write_buffer_bytes": 6 << 20}


def main() -> None:
    """Run the command so."""
    defaults = RocksRowStores.__init__.__kwdefaults__
    assert defaults is not None
    assert defaults.keys() >= _SIZES.keys()
    defaults.update(_SIZES)
    sys.exit(run_command(["run", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
