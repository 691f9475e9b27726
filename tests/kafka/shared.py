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
from typing import NamedTuple

import msgspec

from tests.kafka.broker import START_TIMEOUT_S, Broker, BrokerError, Door, free_port

ROOT = Path(__file__).parents[2]
DOORS = 2


class Address(NamedTuple):
    """Where clients find the broker, and its doors for those behind a proxy: one test at a time takes these."""

    bootstrap: str
    doors: tuple[Door, ...]


@contextmanager
def shared_broker(directory: Path) -> Iterator[Address]:
    """The address of the broker that all who name `directory` share."""
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / "users", fcntl.LOCK_SH):
        with _locked(directory / "start", fcntl.LOCK_EX):
            address = _address(directory) or _start_keeper(directory)
        yield address


def keep(directory: Path) -> None:
    """Run the broker as long as any process holds the users' lock; started by `shared_broker` only."""
    # Listened to only while a test needs them: from a range of their own, which no other test takes ports from.
    doors = [Door(free_port(14_000, 17_000), free_port(17_000, 20_000)) for _ in range(DOORS)]
    broker = Broker(directory / "data", doors=doors)
    broker.start()
    try:
        ready = directory / "address.new"
        ready.write_bytes(msgspec.json.encode(Address(broker.bootstrap, tuple(doors))))
        ready.rename(directory / "address")
        with _locked(directory / "users", fcntl.LOCK_EX):
            (directory / "address").unlink()
            broker.kill()  # nobody reads the data again
    finally:
        broker.kill()


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, operation)
        yield


def _address(directory: Path) -> Address | None:
    try:
        return msgspec.json.decode((directory / "address").read_bytes(), type=Address)
    except FileNotFoundError:
        return None


def _start_keeper(directory: Path) -> Address:
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
        if address := _address(directory):
            keeper.returncode = 0  # not ours to wait for: no ResourceWarning about a child that lives on
            return address
        time.sleep(0.05)
    raise BrokerError((directory / "keeper.log").read_text()[-2000:])


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
