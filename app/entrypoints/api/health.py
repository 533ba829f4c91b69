"""Four questions about this process: does it run, has it started, can it serve, and what can it not do just now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import falcon.asgi
import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.entrypoints.api.problems import Problem
from app.entrypoints.api.representations import JSON
from app.runtime.clock import Clock
from app.runtime.health import DependencyStatus, Status, diagnostics

PATIENCE_S = 1.0

DATABASE_LOST = "all requests: nothing can be read or written"
REDIS_LOST = "catalog cache: offerings are read from PostgreSQL, more slowly"
KAFKA_LOST = "event publication: events wait in the outbox until Kafka is back"
CAMUNDA_LOST = "order fulfillment: accepted orders wait as pending workflow references"

Probe = Callable[[], Awaitable[DependencyStatus]]


async def answers(
    clock: Clock, name: str, question: Callable[[], Awaitable[None]], lost_ability: str, *, required: bool = False
) -> DependencyStatus:
    """Ask a dependency with bounded patience. Never raises; the kind of failure is in `detail`, without its text."""
    started = clock.monotonic()
    # Not awaited after the time is up: breaking off a question to a host that vanished may take long itself.
    task = asyncio.ensure_future(question())
    await asyncio.wait({task}, timeout=PATIENCE_S)
    if not task.done():
        task.add_done_callback(_forget)
        task.cancel()
        return DependencyStatus(name, Status.DOWN, required, lost_ability, f"no answer within {PATIENCE_S:g} s")
    error = task.exception()
    if error is not None:
        return DependencyStatus(name, Status.DOWN, required, lost_ability, type(error).__name__)
    latency_ms = round((clock.monotonic() - started) * 1000, 1)
    return DependencyStatus(name, Status.UP, required, lost_ability, "answers", latency_ms)


def _forget(task: asyncio.Future[None]) -> None:
    """Look at the outcome of a question nobody waits for, or asyncio complains that nobody did."""
    if not task.cancelled():
        task.exception()


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
    """GET /health/ready: the database answers, and tokens can be judged. Redis, Kafka and Camunda are not asked: without them we serve on.

    A process that never got the issuer's keys refuses every request: edges leave it out while others, who have them, go on.
    """

    def __init__(self, ask_database: Probe, can_judge_tokens: Callable[[], Awaitable[bool]]) -> None:
        self._ask_database = ask_database
        self._can_judge_tokens = can_judge_tokens

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Say whether both hold."""
        if (await self._ask_database()).status is not Status.UP:
            raise Problem(503, "not-ready", "The database does not answer.")
        if not await self._can_judge_tokens():
            raise Problem(503, "not-ready", "The issuer of tokens has not told its keys yet.")
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
