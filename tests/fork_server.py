"""What `tests.processes` forks commands from: a process that has imported what commands import.

`python -m tests.fork_server SOCKET`: the number of a socket of orders; it ends when the other side closes that.
"""

from __future__ import annotations

__all__ = ["Order"]

import gc
import importlib
import os
import pkgutil
import runpy
import signal
import socket
import sys
from pathlib import Path

import msgspec

_ORDER_BYTES_MAX = 1 << 18
_PACKAGES = ("state", "operators", "streamproc")
_LIBRARIES = ("numba", "pyarrow.parquet", "uvloop")


class Order(msgspec.Struct, frozen=True):
    """A module that is to be run; the descriptors of stdin, stdout and stderr come beside it."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    new_session: bool


def main() -> None:
    """Fork whatever is ordered. A fork comes out of the loop with its order, and carries it out."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    installed = sys.path[1 + len(_paths(os.environ)) :]
    _load()
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, _ORDER_BYTES_MAX, 3)
        if not message:
            return
        if _is_the_fork():
            break
        for descriptor in descriptors:
            os.close(descriptor)
    order = msgspec.json.decode(message, type=Order)
    try:
        _become(order, descriptors, installed)
    finally:  # who ordered it waits for this, also if it cannot be
        orders.send(str(os.getpid()).encode())
        orders.close()
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)


def _load() -> None:
    for package in _PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(found.name)
    for library in _LIBRARIES:
        importlib.import_module(library)
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert len(threads) == 1, f"a fork would miss what these do: {threads}"
    gc.collect()
    gc.freeze()


def _is_the_fork() -> bool:
    """Fork twice; the process between dies at once, so that the second is the child of who ordered it.

    The second goes on when it is, not before: it may ask who its parent is, and that one may wait for it.
    """
    closes, held = os.pipe()
    between = os.fork()
    if between == 0:
        if os.fork():
            os._exit(0)
        os.close(held)
        os.read(closes, 1)
        os.close(closes)
        return True
    os.waitpid(between, 0)
    os.close(closes)
    os.close(held)
    return False


def _become(order: Order, descriptors: list[int], installed: list[str]) -> None:
    """Be as a new interpreter that was asked for the module."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order.new_session:
        os.setsid()
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.path[:] = [order.folder, *_paths(order.environment), *installed]
    sys.argv = [order.module, *order.arguments]
    sys.modules.pop(order.module, None)


def _paths(environment: os._Environ[str] | dict[str, str]) -> list[str]:
    return [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]


if __name__ == "__main__":
    main()
