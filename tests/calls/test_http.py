"""The client against a real server that is slow, hangs, errs, floods."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import resource
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from operators.call import Breaking, HttpRequest
from state.errors import ConfigError
from streamproc.calls.http import REPLY_BYTES_MAX, HttpTransport
from streamproc.calls.metrics import CallRegistry
from streamproc.calls.request import Request
from streamproc.calls.service import CallError, Service
from streamproc.clock import SystemClock
from tests.calls.server import FLOOD_BYTES, Server, reputation_of
from tests.calls.specs import record, spec

FAILED = {"reputation": 0.5, "known_bad": None, "device_failed": True}


class Asking:
    """A service at a server, for as long as the block lasts."""

    def __init__(self, server: Server, environment: dict[str, str] | None = None, **changes: Any) -> None:
        made = spec(server.port, **({"timeout_ms": 20_000} | changes))
        self.registry = CollectorRegistry()
        transport = HttpTransport(made, environment or {})
        self.service = Service(made, transport, SystemClock(), CallRegistry(self.registry).of("device"))

    async def __aenter__(self) -> Asking:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.service.close()

    async def told(self, *devices: str) -> list[dict[str, Any]]:
        answers = [self.service.answer(record(device)) for device in devices]
        found = [answer if isinstance(answer, bytes) else await answer for answer in answers]
        return [json.loads(b"{%b}" % members) for members in found]

    def results(self) -> dict[str, float]:
        samples = next(iter(metric for metric in self.registry.collect() if metric.name == "streamproc_calls")).samples
        return {sample.labels["result"]: sample.value for sample in samples if sample.name.endswith("_total")}


def well(device: str) -> dict[str, Any]:
    known_bad = device.startswith("bad")
    return {"reputation": reputation_of(device), "known_bad": known_bad, "device_failed": False}


async def test_each_row_gets_the_answer_about_itself() -> None:
    devices = [f"d{n}" for n in range(300)] + ["bad one", "a&b=c/d?e#f", "Zürich", "%2e%2e", "../x"]
    async with Server() as server, Asking(server) as asking:
        assert await asking.told(*devices) == [well(device) for device in devices]
        assert server.asked == dict.fromkeys(devices, 1)
        first = server.requests[0][1]
        assert first["host"] == f"127.0.0.1:{server.port}"
        assert first["accept-encoding"] == "identity"
        assert "cookie" not in first


async def test_a_value_in_the_path_stays_there() -> None:
    async with Server() as server, Asking(server, path="/a/") as asking:
        devices = ["..", ".", "../..", "x/../y", "a?b"]
        assert await asking.told(*devices) == [well(device) for device in devices]
        assert [line for line, _, _ in server.requests if not line.startswith("GET /a/")] == []


async def test_a_thousand_at_a_time_and_no_more() -> None:
    devices = [f"d{n}" for n in range(2_500)]
    async with Server(delay_s=0.3) as server, Asking(server, in_flight=1_000, timeout_ms=60_000) as asking:
        assert await asking.told(*devices) == [well(device) for device in devices]
        assert 900 <= server.at_once <= 1_000
        assert server.connections <= 1_000


async def test_a_slow_service_is_waited_for_as_long_as_it_says() -> None:
    async with Server(delay_s=0.2) as server:
        async with Asking(server) as asking:
            assert await asking.told("d1") == [well("d1")]
        async with Asking(server, timeout_ms=50) as asking:
            assert await asking.told("d1", "d2") == [FAILED, FAILED]
            assert asking.results() == {"timeout": 2}


@pytest.mark.parametrize("mode", ["hangs", "hangs_inside", "drips"])
async def test_a_hanging_service_holds_nobody_up(mode: str) -> None:
    async with Server(mode) as server, Asking(server, timeout_ms=100, breaking=Breaking(0.5, 50, 60_000)) as asking:
        assert await asking.told(*(f"d{n}" for n in range(200))) == [FAILED] * 200
        assert await asking.told(*(f"e{n}" for n in range(200))) == [FAILED] * 200
        assert asking.results() == {"timeout": 200, "breaker_open": 200}
        assert "e1" not in server.asked
        server.mode = "well"


async def test_who_waits_for_a_slot_waits_no_longer_than_the_time_out() -> None:
    async with Server("hangs") as server, Asking(server, timeout_ms=200, in_flight=2) as asking:
        assert await asking.told(*(f"d{n}" for n in range(40))) == [FAILED] * 40
        assert asking.results() == {"timeout": 2, "busy": 38}
        assert len(server.asked) <= 2


@pytest.mark.parametrize(
    ("mode", "result", "attempts"),
    [
        ("status 500", "server_error", 1),
        ("status 503", "server_error", 2),
        ("status 429", "server_error", 1),
        ("status 404", "refused", 1),
        ("status 401", "refused", 1),
        ("says", "bad_answer", 1),
        ("says <html>", "bad_answer", 1),
        ('says {"reputation": null}', "bad_answer", 1),
        ('says {"reputation": "high", "known_bad": false}', "bad_answer", 1),
        ("breaks_off", "no_connection", 2),
        ("hangs_up", "no_connection", 2),
        ("talks_nonsense", "no_connection", 2),
    ],
)
async def test_a_service_that_errs(mode: str, result: str, attempts: int) -> None:
    async with Server(mode) as server, Asking(server) as asking:
        with capture_logs() as logs:
            assert await asking.told("4111-secret") == [FAILED]
        assert (asking.results(), server.asked["4111-secret"]) == ({result: 1}, attempts)
        assert "4111" not in str(logs)
        server.mode = "well"
        assert await asking.told("d1") == [well("d1")]


async def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        transport = HttpTransport(spec(port), {})
        try:
            with pytest.raises(CallError, match=r"^no_connection$") as caught:
                await transport.send(Request("GET", f"http://127.0.0.1:{port}/x?device=secret"))
            assert caught.value.retriable
        finally:
            await transport.close()


@pytest.mark.parametrize("mode", ["floods", "floods_in_headers"])
async def test_a_flood_is_cut_off(mode: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Server(mode) as server, Asking(server, retries=0) as asking:
        assert await asking.told("d1", "d2", "d3") == [FAILED] * 3
        assert asking.results() in ({"too_large": 3}, {"no_connection": 3})
        assert server.sent < FLOOD_BYTES  # of 3 * FLOOD_BYTES that it would send: the connections are gone
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < FLOOD_BYTES


async def test_a_reply_may_be_as_large_as_the_bound() -> None:
    body = '{"reputation": 0.5, "known_bad": false, "more": ""}'
    async with Server() as server, Asking(server) as asking:
        server.mode = "says " + body.replace('""', '"' + "x" * (REPLY_BYTES_MAX - len(body)) + '"')
        assert await asking.told("d1") == [{"reputation": 0.5, "known_bad": False, "device_failed": False}]
        server.mode += " "
        assert await asking.told("d1") == [FAILED]
        assert asking.results() == {"answered": 1, "too_large": 1}


async def test_no_redirect_is_followed() -> None:
    async with Server() as elsewhere, Server() as server, Asking(server) as asking:
        server.mode = f"redirects http://127.0.0.1:{elsewhere.port}/"
        assert await asking.told("d1") == [FAILED]
        assert asking.results() == {"refused": 1}
    assert elsewhere.connections == 0


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as proxy, Server() as server:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with Asking(server) as asking:
            assert await asking.told("d1") == [well("d1")]
    assert proxy.connections == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_who_cannot_prove_its_name_is_told_nothing(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed(tmp_path))
    async with Server(tls=tls) as server:
        http = HttpRequest((f"https://127.0.0.1:{server.port}/r?device=", "device", ""))
        async with Asking(server, asks=http, retries=0) as asking:
            assert await asking.told("d1") == [FAILED]
            assert asking.results() == {"no_connection": 1}
        assert server.requests == []


def self_signed(folder: Path) -> Path:
    """A certificate of 127.0.0.1, with its key, that no authority has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    since = datetime(2026, 1, 1, tzinfo=UTC)
    draft = x509.CertificateBuilder(name, name, key.public_key(), 1, since, since + timedelta(days=9999))
    made = draft.add_extension(names, critical=False).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8
    path = folder / "own.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_a_body_and_headers_are_sent() -> None:
    async with Server() as server:
        http = HttpRequest(
            (f"http://127.0.0.1:{server.port}/score",), "POST", (("X-Key", "$KEY"), ("X-Who", "us")),
            (("device", "device"), ("amount", "amount")),
        )  # fmt: skip
        async with Asking(server, {"KEY": "s3cret\n"}, asks=http) as asking:
            answer = asking.service.answer(record("d1", amount=12.5))
            assert isinstance(answer, asyncio.Future)
            assert json.loads(b"{%b}" % await answer) == well("d1")
        ((line, headers, body),) = server.requests
        assert line == "POST /score HTTP/1.1".rpartition(" ")[0]
        assert (headers["x-key"], headers["x-who"]) == ("s3cret", "us")
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {"device": "d1", "amount": 12.5}


async def test_a_variable_that_is_not_set_is_refused() -> None:
    http = HttpRequest(("http://127.0.0.1:9/",), headers=(("Authorization", "$REPUTATION_TOKEN"),))
    with pytest.raises(ConfigError, match=r"header Authorization is \$REPUTATION_TOKEN.*has no REPUTATION_TOKEN"):
        HttpTransport(spec(asks=http), {"OTHER": "x"})
