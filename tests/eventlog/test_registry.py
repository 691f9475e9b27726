"""Schema registries: a real HTTP server that is slow, hangs, errs or sends nonsense, and folders of files."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from operators.avro import schema_id, wire_record
from state.errors import ConfigError, EventLogError
from streamproc.clock import SystemClock
from streamproc.eventlog import registry
from streamproc.eventlog.registry import FolderRegistry, HttpRegistry, SchemaCache, open_registry

SCHEMA = '{"type": "record", "name": "P", "fields": []}'
GOOD = {"schema": SCHEMA}


class Server:
    """Answers with what is waiting, and then with its last answer again: (status, body, seconds to wait)."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, float]] = []
        self.requests: list[tuple[str, str, str | None, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path, self.headers.get("Authorization"), body))
                status, content, pause = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                time.sleep(pause)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def says(self, *answers: Any) -> None:
        self.answers = [
            answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode(), 0.0) for answer in answers
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def client(server: Server, user: str = "") -> HttpRegistry:
    return HttpRegistry(f"http://{user}{server.address}/base/", SystemClock(), timeout_s=0.5)


ERROR = (500, b'{"error_code":50001}', 0.0)
ABSENT = (404, b'{"error_code":40403}', 0.0)
HANGS = (200, b"{}", 1.5)


async def test_a_schema_is_fetched_by_its_id(server: Server) -> None:
    server.says(GOOD)
    assert await client(server).fetch(7) == SCHEMA
    assert server.requests == [("GET", "/base/schemas/ids/7", None, b"")]


async def test_an_id_is_found_by_its_schema(server: Server) -> None:
    server.says({"subject": "shop.payments-value", "id": 7, "version": 1, "schema": SCHEMA})
    assert await client(server).find("shop/payments-value", SCHEMA) == 7
    ((method, path, _, body),) = server.requests
    assert (method, path, json.loads(body)) == ("POST", "/base/subjects/shop%2Fpayments-value", {"schema": SCHEMA})


@pytest.mark.parametrize("trouble", [ERROR, (503, b"", 0.0), (429, b"", 0.0), ABSENT, HANGS, (200, b"no JSON", 0.0)])
async def test_a_moments_trouble_is_borne(server: Server, trouble: Any) -> None:
    server.says(trouble, GOOD)
    assert await client(server).fetch(7) == SCHEMA
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("trouble", "said"),
    [(ERROR, "answers with status 500"), (HANGS, "fails: TimeoutError"), ((200, b"[]", 0.0), "fails: ValueError")],
)
async def test_lasting_trouble_is_an_error_that_waiting_may_end(server: Server, trouble: Any, said: str) -> None:
    server.says(trouble)
    with pytest.raises(EventLogError, match=said) as caught:
        await client(server).fetch(7)
    assert caught.value.retriable
    assert len(server.requests) == registry.ATTEMPTS


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EventLogError, match="fails: URLError") as caught:
        await HttpRegistry(f"http://127.0.0.1:{port}", SystemClock()).fetch(7)
    assert caught.value.retriable


@pytest.mark.parametrize("status", [401, 403, 400, 302])
async def test_a_refusal_is_not_tried_again_and_shows_no_secret(server: Server, status: int) -> None:
    server.says((status, b"", 0.0))
    with pytest.raises(EventLogError, match=str(status)) as caught:
        await client(server, "me:s3cret%40@").fetch(7)
    assert not caught.value.retriable
    assert "s3cret" not in str(caught.value)
    assert "me:" not in str(caught.value)
    assert [auth for _, _, auth, _ in server.requests] == ["Basic bWU6czNjcmV0QA=="]  # me:s3cret@


async def test_an_answer_that_is_too_large_is_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BYTES_MAX", 100)
    server.says({"schema": SCHEMA + " " * 200})
    with pytest.raises(EventLogError, match="ValueError"):
        await client(server).fetch(7)


@pytest.mark.parametrize(
    "answer", [{**GOOD, "schemaType": "JSON"}, {**GOOD, "references": [{"name": "a"}]}, ABSENT]
)  # fmt: skip
async def test_what_is_no_schema_of_ours_is_absent(server: Server, answer: Any) -> None:
    server.says(answer)
    assert await client(server).fetch(7) is None


async def test_the_loop_goes_on_while_the_registry_hangs(server: Server) -> None:
    server.says(HANGS, GOOD)
    fetch = asyncio.ensure_future(client(server).fetch(7))
    turns = 0
    while not fetch.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert await fetch == SCHEMA
    assert turns > 5


def wire(number: int) -> bytes:
    return wire_record(number, b"rest")


async def test_the_cache_asks_once_and_only_for_what_is_new(server: Server) -> None:
    server.says(GOOD)
    cache = SchemaCache(client(server), SystemClock(), schema_id)
    assert cache.get(7) is None
    for _ in range(3):
        await cache.need([wire(7), None, b"", b"{}", wire(8), wire(7)])
    assert (cache.get(7), cache.get(8), cache.get(9)) == (SCHEMA, SCHEMA, None)
    assert sorted(path for _, path, _, _ in server.requests) == ["/base/schemas/ids/7", "/base/schemas/ids/8"]


class Time(SystemClock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_that_there_is_none_is_forgotten_after_a_minute(server: Server) -> None:
    clock = Time()
    cache = SchemaCache(client(server), clock, schema_id)
    server.says(ABSENT)
    for _ in range(3):
        await cache.need([wire(7)])
    assert len(server.requests) == registry.ATTEMPTS
    server.says(GOOD)
    await cache.need([wire(7)])
    assert cache.get(7) is None
    clock.now = 61.0
    await cache.need([wire(7)])
    assert cache.get(7) == SCHEMA


async def test_a_failure_keeps_what_was_fetched_before(server: Server) -> None:
    cache = SchemaCache(client(server), SystemClock(), schema_id)
    server.says(GOOD)
    await cache.need([wire(7)])
    server.says(ERROR)
    with pytest.raises(EventLogError):
        await cache.need([wire(7), wire(8)])
    assert cache.get(7) == SCHEMA


async def test_a_folder_is_a_registry(tmp_path: Path) -> None:
    (tmp_path / "7.avsc").write_text(SCHEMA)
    (tmp_path / "3.avsc").write_text("{")
    (tmp_path / "x.avsc").write_text(SCHEMA)
    made = await asyncio.to_thread(open_registry, f"file:{tmp_path}", SystemClock())
    assert isinstance(made, FolderRegistry)
    assert await made.fetch(7) == SCHEMA
    assert await made.fetch(8) is None
    assert await made.find("any", json.dumps(json.loads(SCHEMA), indent=4)) == 7
    assert await made.find("any", '"string"') is None


@pytest.mark.parametrize("address", ["", "registry:8081", "ftp://h", "http://", "http://h?x=1", "file:/no/such/folder"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="registry"):
        open_registry(address, SystemClock())
