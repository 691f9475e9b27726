"""A PostgreSQL server of a test's own, on a free port."""

from __future__ import annotations

__all__ = ["Postgres", "missing"]

import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

_NOBODY = "nobody"


def _bin() -> str:
    """Where the server's programs lie; empty: it is not installed."""
    found = shutil.which("initdb")
    places = [str(Path(found).resolve().parent)] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    return places[-1] if places else ""


def missing() -> bool:
    """Whether there is no server on this machine; on CI there has to be one."""
    return not _bin() and os.environ.get("CI") != "true"


class Postgres:
    """Runs while the block lasts. It trusts everybody at 127.0.0.1."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://tester@127.0.0.1:{self.port}/postgres"
        self._folder = tempfile.mkdtemp(prefix="streamproc-pg-")
        self._process: subprocess.Popen[bytes] | None = None
        # the server refuses to run as root
        self._as = ["setpriv", "--reuid", _NOBODY, "--regid", "nogroup", "--clear-groups"] if os.getuid() == 0 else []

    def __enter__(self) -> Postgres:
        if self._as:
            shutil.chown(self._folder, _NOBODY)
        made = ["initdb", "-D", f"{self._folder}/data", "-U", "tester", "-A", "trust", "-E", "UTF8", "-N"]
        self._run([f"{_bin()}/{made[0]}", *made[1:]])
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-p", str(self.port), "-k", self._folder, "-c", "listen_addresses=127.0.0.1", "-F"]
        words = [*self._as, f"{_bin()}/postgres", "-D", f"{self._folder}/data", *options]
        self._process = subprocess.Popen(words, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            ready = [f"{_bin()}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            assert self._process.poll() is None
            time.sleep(0.05)
        raise AssertionError("the server does not start")

    def stop(self) -> None:
        """At once; connections break."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def execute(self, sql: str) -> None:
        """Run statements."""
        shell = [f"{_bin()}/psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
        subprocess.run([*shell, "-U", "tester", "-d", "postgres", "-c", sql], check=True, cwd="/", timeout=60)

    def _run(self, words: list[str]) -> None:
        subprocess.run([*self._as, *words], check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120)
