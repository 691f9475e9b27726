"""A TCP proxy between a Kafka client and its broker that does what networks do, and can hold back one request.

    refuse          existing connections end, new ones are refused
    reset           existing connections are reset, once
    cut             each connection ends in the middle of its next request
    hold            nothing passes; it is delivered when the proxy is healed, as after a partition
    lose            what is sent is lost; the connections are reset when the proxy is healed
    delay, slow     everything passes later, or so many bytes a second

All but the first three apply to either direction. A Kafka request begins with its length (4 bytes) and its api key (2).
"""

from __future__ import annotations

__all__ = ["DOWN", "UP", "Proxy", "Rule"]

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

R = TypeVar("R")
_Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]
UP, DOWN = "up", "down"
_CHUNK_BYTES = 1 << 16
_QUEUED_MAX = 1_000
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Rule:
    """What happens to bytes that go in one direction."""

    held: bool = False
    lost: bool = False
    cut: bool = False
    delay_s: float = 0.0
    bytes_per_s: float = 0.0


_PASS = Rule()


class _Catch:
    """A request that is held back: nothing follows it on its connection."""

    def __init__(self, api_key: int) -> None:
        self.api_key = api_key
        self.by: _Connection | None = None
        self.deliver = asyncio.Event()
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class _Connection:
    """Two pumps; each direction has a queue, so that a delay is one for each piece and not their sum."""

    def __init__(self, proxy: Proxy, client: _Side, broker: _Side) -> None:
        self._proxy = proxy
        self._client, self._broker = client, broker

    async def run(self) -> None:
        """Until either side ends it; a request that is held back outlives its client."""
        ways = ((UP, self._client[0], self._broker[1]), (DOWN, self._broker[0], self._client[1]))
        pumps = [asyncio.ensure_future(self._pump(*way)) for way in ways]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.close()

    def close(self, *, reset: bool = False) -> None:
        for _, writer in (self._client, self._broker):
            if reset:
                writer.transport.abort()
            else:
                writer.close()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_MAX)
        sender = asyncio.ensure_future(self._send(way, queue, writer))
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while data := await (_frame(reader) if way == UP else reader.read(_CHUNK_BYTES)):
                    await queue.put((loop.time() + self._proxy.rules[way].delay_s, data))
                    self._note_answer(way, data)
            await queue.put((0.0, b""))
            await sender
        finally:
            sender.cancel()

    async def _send(self, way: str, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop, proxy = asyncio.get_running_loop(), self._proxy
        while True:
            due, data = await queue.get()
            if not data:
                return
            await asyncio.sleep(max(0.0, due - loop.time()))
            await proxy.passing[way].wait()
            rule = proxy.rules[way]
            if rule.lost:
                continue
            if rule.bytes_per_s:
                await asyncio.sleep(len(data) / rule.bytes_per_s)
            catch = await self._hold_back(int.from_bytes(data[4:6], "big")) if way == UP else None
            with contextlib.suppress(ConnectionError):  # who has left hears nothing
                writer.write(data[: len(data) // 2] if rule.cut else data)
                await writer.drain()
            if rule.cut:
                self.close()
            if catch is not None:
                await asyncio.wait([catch.answer], timeout=_ANSWER_SECONDS)

    async def _hold_back(self, api_key: int) -> _Catch | None:
        self._proxy.requests[api_key] += 1
        catch = self._proxy.catching
        if catch is None or catch.by is not None or catch.api_key != api_key:
            return None
        catch.by = self
        await catch.deliver.wait()
        return catch

    def _note_answer(self, way: str, data: bytes) -> None:
        catch = self._proxy.catching
        ours = way == DOWN and catch is not None and catch.by is self and catch.deliver.is_set()
        if catch is not None and ours and not catch.answer.done():
            catch.answer.set_result(data)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head, "big"))


class Proxy:
    """On 127.0.0.1, from `port` to `target`; a thread with a loop of its own, so all calls block."""

    def __init__(self, port: int, target: int) -> None:
        self._port, self._target = port, target
        self.rules: dict[str, Rule] = {UP: _PASS, DOWN: _PASS}
        self.requests: Counter[int] = Counter()
        """What came through, by api key."""
        self.catching: _Catch | None = None
        self.passing = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self._connections: dict[_Connection, asyncio.Task[Any]] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """How a worker names the log behind it."""
        return f"kafka://127.0.0.1:{self._port}"

    # ---- faults

    def set(self, rule: Rule, *ways: str) -> None:
        """From now on, in both directions if none is named."""

        async def change() -> None:
            for way in ways or (UP, DOWN):
                self.rules[way] = rule
                (self.passing[way].clear if rule.held else self.passing[way].set)()

        self._do(change())

    def reset(self) -> None:
        """Every connection, now."""

        async def drop() -> None:
            self._drop(reset=True)

        self._do(drop())

    def refuse(self) -> None:
        """End all connections and take no new ones, until healed."""

        async def shut() -> None:
            self._close_door()
            self._drop(reset=False)

        self._do(shut())

    def heal(self) -> None:
        """No more faults."""

        async def mend() -> None:
            lossy = any(rule.lost for rule in self.rules.values())
            await self._open()
            if lossy:
                self._drop(reset=True)  # TCP would have sent again what was lost

        self._do(mend())

    # ---- one request held back

    def catch(self, api_key: int) -> None:
        """Hold the next request of this kind back."""

        async def arm() -> None:
            self.catching = _Catch(api_key)

        self._do(arm())

    @property
    def caught(self) -> bool:
        """Whether one is held."""
        return self.catching is not None and self.catching.by is not None

    def deliver(self) -> bytes:
        """Let it go; the broker's answer, which nobody else may be there to see."""
        catch = self.catching
        assert catch is not None

        async def release() -> bytes:
            catch.deliver.set()
            answer = await asyncio.wait_for(catch.answer, _ANSWER_SECONDS)
            self.catching = None
            return answer

        return self._do(release())

    # ---- on the loop

    async def _open(self) -> None:
        for way in (UP, DOWN):
            self.rules[way] = _PASS
            self.passing[way].set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, reuse_address=True)

    def _close_door(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        connection, task = _Connection(self, (reader, writer), broker), asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.run()
        except asyncio.CancelledError:
            pass
        finally:
            del self._connections[connection]

    def _drop(self, *, reset: bool) -> None:
        for connection in list(self._connections):
            connection.close(reset=reset)

    async def _end(self) -> None:
        self._close_door()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _do(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * _ANSWER_SECONDS)
