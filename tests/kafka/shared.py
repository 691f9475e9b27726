"""One broker for all test processes: the first to ask starts it, and it ends after the last.

Every user holds a shared lock on a file. A keeper process waits for the exclusive lock, then ends the
broker. The kernel drops a dead process's locks, so a crashed test run leaves no broker behind.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kafka.broker import START_TIMEOUT_S, Broker, BrokerError

ROOT = Path(__file__).parents[2]


@contextmanager
def shared_broker(directory: Path) -> Iterator[str]:
    """The bootstrap address of the broker that all who name `directory` share."""
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / "users", fcntl.LOCK_SH):
        with _locked(directory / "start", fcntl.LOCK_EX):
            bootstrap = _address(directory) or _start_keeper(directory)
        yield bootstrap


def keep(directory: Path) -> None:
    """Run the broker as long as any process holds the users' lock; started by `shared_broker` only."""
    broker = Broker(directory / "data")
    broker.start()
    try:
        ready = directory / "bootstrap.new"
        ready.write_text(broker.bootstrap)
        ready.rename(directory / "bootstrap")
        with _locked(directory / "users", fcntl.LOCK_EX):
            (directory / "bootstrap").unlink()
            broker.kill()  # nobody reads the data again
    finally:
        broker.kill()


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, operation)
        yield


def _address(directory: Path) -> str | None:
    try:
        return (directory / "bootstrap").read_text()
    except FileNotFoundError:
        return None


def _start_keeper(directory: Path) -> str:
    # Its own session: the keeper must outlive the test process that happened to be first.
    with (directory / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.shared", str(directory)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and keeper.poll() is None:
        if bootstrap := _address(directory):
            keeper.returncode = 0  # not ours to wait for: no ResourceWarning about a child that lives on
            return bootstrap
        time.sleep(0.05)
    raise BrokerError((directory / "keeper.log").read_text()[-2000:])


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
