"""`streamproc run` whose state's disk fails with EIO as long as a file says so.

`python -m tests.fire.faultfs DIR run PIPELINE --log URL ...`: DIR/read, DIR/write and DIR/snapshot, while they are
there, make every such call of a row store fail, before anything has happened.
"""

from __future__ import annotations

__all__ = ["MODULE", "main"]

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from state.rocksdb import RocksRowStore
from streamproc.cli.main import run_command

MODULE = "tests.fire.faultfs"
_CALLS = {"read": "get_many", "write": "write", "snapshot": "snapshot"}


def _failing(real: Callable[..., Any], order: Path) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        if order.exists():
            raise OSError(errno.EIO, "simulated")
        return real(*arguments)

    return call


def main() -> None:
    """Put the faults in and run the command; its one worker is forked, and so has them too."""
    directory = Path(sys.argv[1])
    for order, name in _CALLS.items():
        setattr(RocksRowStore, name, _failing(getattr(RocksRowStore, name), directory / order))
    sys.exit(run_command(sys.argv[2:]))


if __name__ == "__main__":
    main()
