"""/metrics, /live and /ready over a real socket."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamproc.runtime.health import HealthServer
from streamproc.runtime.metrics import LatencyHistogram, WorkerMetrics


async def get(port: int, request: bytes) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0], body


async def test_answers() -> None:
    ready = False
    metrics = WorkerMetrics()
    metrics.records.inc(3)
    server = HealthServer(metrics.registry, lambda: ready)
    port = await server.start("127.0.0.1", 0)
    try:
        assert (await get(port, b"GET /live HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
        assert (await get(port, b"GET /ready HTTP/1.1\r\n\r\n"))[0].startswith("HTTP/1.1 503")
        ready = True
        assert (await get(port, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
        status, body = await get(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert status == "HTTP/1.1 200 OK"
        assert "streamproc_records_total 3.0" in body
    finally:
        await server.close()


@pytest.mark.parametrize("request_line", [b"GET /other HTTP/1.1\r\n\r\n", b"POST /ready HTTP/1.1\r\n\r\n", b"\r\n\r\n"])
async def test_anything_else_is_not_found(request_line: bytes) -> None:
    server = HealthServer(CollectorRegistry(), lambda: True)
    port = await server.start("127.0.0.1", 0)
    try:
        assert (await get(port, request_line))[0] == "HTTP/1.1 404 Not Found"
    finally:
        await server.close()


async def test_an_endless_request_is_cut_off() -> None:
    server = HealthServer(CollectorRegistry(), lambda: True)
    port = await server.start("127.0.0.1", 0)
    try:
        status, _ = await get(port, b"GET /" + b"x" * 100_000)
        assert status == ""
    finally:
        await server.close()


def test_latencies_are_counted_in_their_buckets() -> None:
    histogram = LatencyHistogram("latency", "help")
    histogram.observe(np.array([0, 1, 2, 7, 70, 10**9]))
    family = next(iter(histogram.collect()))
    cumulative = {sample.labels["le"]: sample.value for sample in family.samples if sample.name == "latency_bucket"}
    assert (cumulative["0.001"], cumulative["0.002"], cumulative["0.008"]) == (2.0, 3.0, 4.0)
    assert (cumulative["0.08"], cumulative["60.0"], cumulative["+Inf"]) == (5.0, 5.0, 6.0)
