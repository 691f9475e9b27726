"""/metrics, /live and /ready of one worker, over HTTP on one port.

/live: the loop turns. /ready: the worker has its partitions restored and decides; it tells the truth, so a pod
that restores or stops is not sent traffic. Request lines are bounded and everything else of a request is ignored.
"""

from __future__ import annotations

__all__ = ["HealthServer", "watch_loop"]

import asyncio
import contextlib
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from streamproc.clock import Clock

_LINE_MAX = 4096
_REQUEST_SECONDS = 5.0
_LAG_PROBE_SECONDS = 0.05


class HealthServer:
    """Serves until closed; `ready` and `registry` are asked at each request."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        self._registry = registry
        self._ready = ready
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (a free one for 0)."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_LINE_MAX)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError, ValueError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                line = await reader.readline()
                while (await reader.readline()).strip():
                    pass
                writer.write(self._answer(line.split()))
                await writer.drain()
        writer.close()

    def _answer(self, request: list[bytes]) -> bytes:
        path = request[1].split(b"?")[0] if len(request) > 1 and request[0] == b"GET" else b""
        if path == b"/metrics":
            return _response("200 OK", generate_latest(self._registry), CONTENT_TYPE_LATEST)
        if path == b"/live":
            return _response("200 OK", b"live\n")
        if path == b"/ready":
            ready = self._ready()
            return _response("200 OK" if ready else "503 Service Unavailable", b"ready\n" if ready else b"not ready\n")
        return _response("404 Not Found", b"/metrics, /live, /ready\n")


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def watch_loop(clock: Clock, gauge: Gauge) -> None:
    """Measure for ever how late the loop wakes us: the gauge holds a slowly fading maximum, in seconds."""
    worst = 0.0
    while True:
        due = clock.monotonic() + _LAG_PROBE_SECONDS
        await clock.sleep(_LAG_PROBE_SECONDS)
        worst = max(worst * 0.98, clock.monotonic() - due)
        gauge.set(worst)
