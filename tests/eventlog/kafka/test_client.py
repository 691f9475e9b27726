"""A client whose broker goes away, on uvloop as in a `run`, without a broker: only what a client needs to connect."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import uvloop

from state.errors import EventLogError
from streamproc.eventlog.kafka._aiokafka import AIOKafkaClient, MetadataRequest, errors
from streamproc.eventlog.kafka.client import Client
from streamproc.eventlog.kafka.settings import Settings
from tests.kafka.broker import free_port

METADATA, API_VERSIONS = 3, 18
NODE = 1
PAUSE_S = Settings().retry_backoff_ms / 1000
T = TypeVar("T")


class Stub(asyncio.Protocol):
    """A cluster of one node without topics; the first answers, as many as `unknown` holds, name not even that."""

    def __init__(self, port: int, unknown: list[None]) -> None:
        self._port, self._unknown = port, unknown
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 4 + (size := int.from_bytes(self._received[:4])):
            request, self._received = self._received[4 : 4 + size], self._received[4 + size :]
            answer = request[4:8] + self._answer(int.from_bytes(request[:2]))
            self._transport.write(len(answer).to_bytes(4) + answer)

    def _answer(self, api_key: int) -> bytes:
        if api_key == API_VERSIONS:
            known = ((API_VERSIONS, 0, 0), (METADATA, 0, 1))
            return struct.pack(">hi", 0, len(known)) + b"".join(struct.pack(">hhh", *each) for each in known)
        assert api_key == METADATA
        if self._unknown:
            self._unknown.pop()
            return struct.pack(">iii", 0, -1, 0)
        host = b"127.0.0.1"
        node = struct.pack(">ih", NODE, len(host)) + host + struct.pack(">ih", self._port, -1)
        return struct.pack(">i", 1) + node + struct.pack(">ii", NODE, 0)


async def ask(client: Client) -> object:
    try:
        return await client.send(NODE, MetadataRequest([]))
    except errors.NodeNotReadyError:
        return None


async def update(client: Client) -> object:
    """What aiokafka's task for metadata does in each of its rounds, without the pause before it."""
    return await AIOKafkaClient._metadata_update(client, client.cluster, set())


async def end_of_connections(client: Client) -> None:
    """As when a broker is killed while it answers: aiokafka has not read all yet, so takes them for connected."""
    for connection in client._conns.values():
        connection._reader.feed_data(b"?")
        connection._writer.transport.abort()
    await asyncio.sleep(0)
    assert all(connection.connected() for connection in client._conns.values())


@asynccontextmanager
async def connected(unknown: int = 0, **settings: Any) -> AsyncIterator[tuple[Client, asyncio.Server]]:
    port, rest = free_port(), [None] * unknown
    server = await asyncio.get_running_loop().create_server(lambda: Stub(port, rest), "127.0.0.1", port)
    client = Client(f"127.0.0.1:{port}", Settings(**settings), "client")
    try:
        await client.connect()
        yield client, server
    finally:
        await client.sever()
        server.close()


def on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(work, 20))


@pytest.mark.parametrize("use", [ask, update])
def test_a_connection_that_has_just_ended_is_no_error_of_the_program(
    use: Callable[[Client], Awaitable[object]],
) -> None:
    """Not ready, and the next attempt connects anew."""

    async def run() -> None:
        async with connected() as (client, _):
            assert await use(client)
            await end_of_connections(client)
            assert not await use(client)
            assert await use(client)
            assert await client.force_metadata_update()

    on_uvloop(run())


@pytest.mark.parametrize("there", [True, False])
def test_who_asks_for_metadata_again_and_again_does_not_spin(there: bool) -> None:
    """As aiokafka's sender does for a partition without a leader, whether a broker answers or not."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        async with connected() as (client, server):
            if not there:
                server.close()
                await end_of_connections(client)
            rounds, end = 0, loop.time() + 10 * PAUSE_S
            while loop.time() < end:
                assert await client.force_metadata_update() is there
                rounds += 1
            return rounds

    assert 0 < on_uvloop(run()) <= 12  # a slow machine makes fewer


def test_a_cluster_that_does_not_know_its_nodes_yet_is_waited_for() -> None:
    async def go() -> None:
        async with connected(unknown=3) as (client, _):
            assert client.get_random_node() == NODE

    on_uvloop(go())


def test_it_is_waited_for_within_the_bound() -> None:
    async def go() -> None:
        with pytest.raises(EventLogError, match="nobody answers") as caught:
            async with connected(unknown=1_000_000, connect_timeout_ms=500):
                pass
        assert caught.value.retriable

    on_uvloop(go())
