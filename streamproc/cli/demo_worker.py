"""The demo's worker: `streamproc run` as a child process that cannot outlive us."""

from __future__ import annotations

__all__ = ["DemoWorker"]

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import IO

from state.errors import StreamprocError
from streamproc.cli.demo_folder import DemoFolder

_STOP_SECONDS = 60.0  # a step that is being compiled is waited for


class DemoWorker:
    """Starts with `start`; `failed` ends, with an error, when the child does so before `stop`."""

    def __init__(self, pipeline: Path, folder: DemoFolder) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._process: Process | None = None
        self._output: IO[bytes] | None = None

    async def start(self) -> None:
        """Start the process; it is ready some time later."""
        folder = self._folder
        self._output = await asyncio.to_thread(open, folder.worker_log, "wb")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamproc.cli.main", "run"),
            *("--log", f"file:{folder.log}", "--state", str(folder.state), "--instance", "demo"),
            *("--log-level", "warning", "--worker", "0", "--workers", "1", "--parent", str(os.getpid())),
            *("--", str(self._pipeline)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=self._output,
            start_new_session=True,  # Ctrl-C is for us: we stop it
        )

    async def failed(self) -> None:
        """Wait for the process.

        Raises:
            StreamprocError: it has ended.
        """
        assert self._process is not None
        code = await self._process.wait()
        raise StreamprocError(f"the worker ended early with exit code {code}: see {self._folder.worker_log}")

    async def stop(self) -> int:
        """Let it finish its transaction; its exit code."""
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        if self._output is not None:
            self._output.close()
        return code
