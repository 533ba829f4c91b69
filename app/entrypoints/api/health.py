"""Four questions about this process: does it run, has it started, can it serve, and what can it not do just now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import falcon.asgi
import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.entrypoints.api.problems import Problem
from app.entrypoints.api.representations import JSON
from app.runtime.health import DependencyStatus, diagnostics

PATIENCE_S = 1.0

DATABASE_LOST = "all requests: nothing can be read or written"
REDIS_LOST = "catalog cache: offerings are read from PostgreSQL, more slowly"
KAFKA_LOST = "event publication: events wait in the outbox until Kafka is back"
CAMUNDA_LOST = "order fulfillment: accepted orders wait as pending workflow references"

Probe = Callable[[], Awaitable[DependencyStatus]]


class DatabaseCheck(Protocol):
    """Asks the database whether it can serve this release."""

    async def __call__(self) -> None:
        """Return when it can.

        Raises:
            Exception: it cannot; the message says why, for the log and the diagnostics page only.
        """
        ...


class LiveResource:
    """GET /health/live: the event loop answers."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Say so."""
        _answer(resp, {"status": "live"})


class StartupResource:
    """GET /health/startup: the start-up checks have passed, once and for all."""

    def __init__(self, has_started: Callable[[], bool]) -> None:
        self._has_started = has_started

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Say whether they have."""
        if not self._has_started():
            raise Problem(503, "not-started", "The start-up checks have not passed yet.")
        _answer(resp, {"status": "started"})


class ReadyResource:
    """GET /health/ready: the database answers. Redis, Kafka and Camunda are not asked: without them we serve on."""

    def __init__(self, check_database: DatabaseCheck) -> None:
        self._check_database = check_database

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Say whether it does."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._check_database()
        except Exception:  # noqa: BLE001 (whatever the reason: not ready; diagnostics has it)
            raise Problem(503, "not-ready", "The database does not answer.") from None
        _answer(resp, {"status": "ready"})


class DiagnosticsResource:
    """GET /health/diagnostics, on the internal listener: every dependency, and what is lost without it."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = probes

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Ask all of them at once."""
        _answer(resp, diagnostics(await asyncio.gather(*(probe() for probe in self._probes))))


class MetricsResource:
    """GET /metrics, on the internal listener: the figures of all workers, added up.

    Args:
        make_registry: builds the registry anew for each scrape, since workers come and go.
    """

    def __init__(self, make_registry: Callable[[], CollectorRegistry]) -> None:
        self._make_registry = make_registry

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Serve them in Prometheus' text format."""
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._make_registry())


def _answer(resp: falcon.asgi.Response, document: dict[str, object]) -> None:
    resp.content_type = JSON
    resp.set_header("Cache-Control", "no-store")
    resp.data = msgspec.json.encode(document)
