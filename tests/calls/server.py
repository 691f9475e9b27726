"""A service on a real socket, written without any HTTP library, that can do everything wrong."""

from __future__ import annotations

__all__ = ["Server", "in_a_thread", "reputation_of"]

import asyncio
import contextlib
import json
import ssl
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

FLOOD_BYTES = 64 * 1024 * 1024


def reputation_of(device: str) -> float:
    """What the service says of a device."""
    return zlib.crc32(device.encode()) % 1000 / 1000


class Server:
    """How it answers is up to `mode`, which may change at any time, or to the path's last part, if that is a mode.

    `asked`: devices, by how often; `at_once`: the most requests that were open at a time; `sent`: bytes that went out.
    """

    def __init__(self, mode: str = "well", delay_s: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self.mode, self.delay_s, self._tls = mode, delay_s, tls
        self.asked: Counter[str] = Counter()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.open = self.at_once = self.connections = self.sent = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((f"{method} {target}", headers, body))
        self.open += 1
        self.at_once = max(self.at_once, self.open)
        try:
            return await self._reply(target, body, writer)
        finally:
            self.open -= 1

    async def _reply(self, target: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        url = urlsplit(target)
        device = parse_qs(url.query, keep_blank_values=True).get("device", [""])[0]
        if not url.query:
            device = json.loads(body)["device"] if body else unquote(url.path.rpartition("/")[2])
        self.asked[device] += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        mode, _, argument = self.mode.partition(" ")
        good = json.dumps({"reputation": reputation_of(device), "known_bad": device.startswith("bad")}).encode()
        match mode:
            case "well":
                await self._send(writer, good)
            case "status":
                await self._send(writer, good, argument)
            case "says":
                await self._send(writer, argument.encode())
            case "hangs":
                await asyncio.sleep(3600)
            case "hangs_inside":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(good) + good[:5])
                await asyncio.sleep(3600)
            case "drips":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            case "floods" | "floods_in_headers":
                await self._flood(writer, mode)
            case "breaks_off":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{")
                return False
            case "hangs_up":
                return False
            case "talks_nonsense":
                writer.write(b"\x00\xffnot HTTP at all\r\n\r\n")
                return False
            case "redirects":
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % argument.encode())
            case _:
                raise AssertionError(mode)
        return True

    async def _send(self, writer: asyncio.StreamWriter, body: bytes, status: str = "200") -> None:
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    async def _flood(self, writer: asyncio.StreamWriter, mode: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        if mode == "floods":
            writer.write(b"\r\n")  # without a length: until the connection ends
        for _ in range(FLOOD_BYTES // 65536):
            writer.write(b"x" * 65536)
            self.sent += 65536
            await writer.drain()


@contextlib.contextmanager
def in_a_thread(server: Server) -> Iterator[Server]:
    """The server on a loop of its own, for programs that have theirs."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        done.set()
        thread.join(10)
