from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from app.runtime.metrics import ConsumerMetrics, MetricsServer, RelayMetrics


@pytest.fixture
async def server() -> AsyncIterator[MetricsServer]:
    registry = CollectorRegistry()
    RelayMetrics(registry).published.inc(3)
    ConsumerMetrics(registry, "order-projection").event("applied", 2)
    server = MetricsServer("127.0.0.1", 0, registry)
    await server.start()
    yield server
    await server.stop()


async def ask(server: MetricsServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_metrics_are_served_in_the_exposition_format(server: MetricsServer) -> None:
    answer = await ask(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"cpq_relay_published_total 3.0\n" in answer
    assert b'cpq_consumer_events_total{group="order-projection",outcome="applied"} 2.0\n' in answer
    assert b"_created" not in answer


async def test_a_living_loop_says_so(server: MetricsServer) -> None:
    answer = await ask(server, b"GET /health/live?x=1 HTTP/1.1\r\n\r\n")

    assert answer.endswith(b'\r\n\r\n{"status":"live"}')


async def test_head_has_no_body(server: MetricsServer) -> None:
    assert (await ask(server, b"HEAD /health/live HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("request_line", "status"), [(b"GET / HTTP/1.1", b"404"), (b"POST /metrics HTTP/1.1", b"405")])
async def test_everything_else_is_refused(server: MetricsServer, request_line: bytes, status: bytes) -> None:
    assert (await ask(server, request_line + b"\r\n\r\n")).split(b" ")[1] == status


async def test_an_endless_request_is_cut_off(server: MetricsServer) -> None:
    assert await ask(server, b"GET /" + b"a" * 20_000) == b""


async def test_a_taken_port_is_an_error_that_names_it(server: MetricsServer) -> None:
    with pytest.raises(OSError, match=str(server.port)):
        await MetricsServer("127.0.0.1", server.port, CollectorRegistry()).start()
