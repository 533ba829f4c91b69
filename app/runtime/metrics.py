"""Every metric of the platform, declared once, and the small HTTP server by which a unit without an API shows its own.

A unit builds only the classes it feeds: a figure that a unit cannot know is absent from its /metrics, never 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

JobOutcome = Literal["completed", "failed", "fallout", "refused", "handed_back", "postponed"]
CallOutcome = Literal["done", "refused", "not_done", "unknown"]
StartOutcome = Literal["started", "already_started", "failed"]
SimulatedOutcome = Literal["performed", "replayed", "not_performed", "queried"]
ConsumerOutcome = Literal["applied", "duplicate", "stale", "parked", "queued", "failed", "dead", "poison"]

disable_created_metrics()  # type: ignore[no-untyped-call]  # the process's own start time says the same once, not once per series

_CLIENT_ROUTES = "/v1/"
_MAX_REQUEST_BYTES = 8192
_REQUEST_TIMEOUT = 5.0


def new_registry() -> CollectorRegistry:
    """Return a registry for one process, with the process's own figures (memory, descriptors, CPU) in it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class ApiMetrics:
    """Requests answered, by route template: never by path, which would make a series per id."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "cpq_api_requests_total", "HTTP requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "cpq_api_request_seconds",
            "Time from request to response.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method=method, route=route, status=str(status)).inc()
        # Probes and scrapes are counted and not timed: they would drown what clients wait for.
        if route.startswith(_CLIENT_ROUTES):
            self._seconds.observe(seconds)


class OrderMetrics:
    """Orders that reached a state, counted by the process that committed the transition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._orders = Counter("cpq_orders_total", "Orders that reached a state.", ["state"], registry=registry)

    def reached(self, state: str) -> None:
        """Count one committed transition into `state`."""
        self._orders.labels(state=state).inc()


class WorkerMetrics:
    """Jobs of the workflow engine and process starts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter("cpq_worker_jobs_total", "Jobs handled.", ["job_type", "outcome"], registry=registry)
        self._starts = Counter(
            "cpq_workflow_starts_total", "Attempts to start a process.", ["outcome"], registry=registry
        )

        self._calls = Counter(
            "cpq_external_calls_total", "Calls to external systems.", ["system", "outcome"], registry=registry
        )
        self._open_fallout = Gauge(
            "cpq_fallout_open",
            "Steps that wait for a person, of all tenants; shown by starters.",
            ["step"],
            registry=registry,
        )
        self._engine_up = Gauge(
            "cpq_worker_engine_up", "1 while the workflow engine answered last time, else 0.", registry=registry
        )

    def open_fallout(self, cases: Mapping[str, int]) -> None:
        """Set how many fallout cases wait for a person, by step."""
        for step, number in cases.items():
            self._open_fallout.labels(step=step).set(number)

    def call(self, system: str, outcome: CallOutcome) -> None:
        """Count one call that went out to an external system."""
        self._calls.labels(system=system, outcome=outcome).inc()

    def engine(self, *, up: bool) -> None:
        """Set whether the workflow engine answered last time."""
        self._engine_up.set(1 if up else 0)

    def job(self, job_type: str, outcome: JobOutcome) -> None:
        """Count one job handled."""
        self._jobs.labels(job_type=job_type, outcome=outcome).inc()

    def start(self, outcome: StartOutcome) -> None:
        """Count one attempt to start a process."""
        self._starts.labels(outcome=outcome).inc()


class ExternalGuardMetrics:
    """Circuit breakers and rate limits of external systems, as this process met them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._held_back = Counter(
            "cpq_external_calls_held_back_total",
            "Calls to external systems that were not let out.",
            ["system", "reason"],
            registry=registry,
        )
        self._open = Gauge(
            "cpq_external_breaker_open",
            "1 while the system's circuit breaker was not closed when last seen, else 0.",
            ["system"],
            registry=registry,
        )
        self._seconds = Histogram(
            "cpq_external_guard_seconds",
            "Time that asking for admission took.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0),
            registry=registry,
        )

    def held_back(self, system: str, reason: str) -> None:
        """Count one call that was not let out."""
        self._held_back.labels(system=system, reason=reason).inc()

    def breaker(self, system: str, state: str) -> None:
        """Set what the breaker's state is."""
        self._open.labels(system=system).set(0 if state == "closed" else 1)

    def guarded(self, seconds: float) -> None:
        """Observe one admission."""
        self._seconds.observe(seconds)


class CallbackMetrics:
    """Callbacks of external systems, by what became of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._callbacks = Counter(
            "cpq_callbacks_total", "Callbacks of external systems.", ["system", "outcome"], registry=registry
        )

    def received(self, system: str, outcome: str) -> None:
        """Count one callback."""
        self._callbacks.labels(system=system, outcome=outcome).inc()


class RelayMetrics:
    """The outbox as the relay sees it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.published = Counter("cpq_relay_published_total", "Events marked published.", registry=registry)
        self.failures = Counter(
            "cpq_relay_publish_failures_total", "Events that Kafka did not acknowledge.", registry=registry
        )
        self.parked = Counter("cpq_relay_parked_total", "Events set aside as never publishable.", registry=registry)
        self.backlog = Gauge("cpq_outbox_backlog", "Events committed and not yet published.", registry=registry)
        self.oldest_age = Gauge(
            "cpq_outbox_oldest_age_seconds", "Age of the oldest unpublished event, 0 without one.", registry=registry
        )
        self.parked_aggregates = Gauge(
            "cpq_outbox_parked_aggregates", "Aggregates that wait behind a parked event.", registry=registry
        )
        self.shards = Gauge("cpq_relay_shards", "Shards whose lease this relay holds.", registry=registry)


class ConsumerMetrics:
    """One consumer group's progress."""

    def __init__(self, registry: CollectorRegistry, group: str) -> None:
        self._group = group
        self._events = Counter("cpq_consumer_events_total", "Events handled.", ["group", "outcome"], registry=registry)
        self._lag = Gauge(
            "cpq_consumer_lag_records",
            "Records between this group and the end of its partitions.",
            ["group"],
            registry=registry,
        )
        self._paused = Gauge(
            "cpq_consumer_paused_partitions",
            "Partitions halted at an event that cannot be applied.",
            ["group"],
            registry=registry,
        )
        self._parked_aggregates = Gauge(
            "cpq_consumer_parked_aggregates",
            "Aggregates whose events wait behind one that failed.",
            ["group"],
            registry=registry,
        )
        self._parked_events = Gauge(
            "cpq_consumer_parked_events", "Events set aside, those that wait included.", ["group"], registry=registry
        )
        self._dead_letters = Gauge(
            "cpq_consumer_dead_letters", "Dead letters nobody has settled.", ["group"], registry=registry
        )
        self._oldest_parked = Gauge(
            "cpq_consumer_oldest_parked_age_seconds",
            "Age of the oldest event set aside, 0 without one.",
            ["group"],
            registry=registry,
        )
        self.paused_partitions(0)

    def event(self, outcome: ConsumerOutcome, count: int = 1) -> None:
        """Count events by what became of them."""
        self._events.labels(group=self._group, outcome=outcome).inc(count)

    def parked(self, *, aggregates: int, events: int, dead_letters: int, oldest_age_seconds: float) -> None:
        """Set what the whole group has set aside, whichever process did."""
        self._parked_aggregates.labels(group=self._group).set(aggregates)
        self._parked_events.labels(group=self._group).set(events)
        self._dead_letters.labels(group=self._group).set(dead_letters)
        self._oldest_parked.labels(group=self._group).set(oldest_age_seconds)

    def lag(self, records: int) -> None:
        """Set how far the group is behind, over the partitions of this process."""
        self._lag.labels(group=self._group).set(records)

    def paused_partitions(self, count: int) -> None:
        """Set how many partitions are halted at a poison event."""
        self._paused.labels(group=self._group).set(count)


class SimulatorMetrics:
    """Calls as the simulated external systems saw them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "cpq_simulator_requests_total",
            "Calls to simulated external systems.",
            ["system", "outcome"],
            registry=registry,
        )

    def request(self, system: str, outcome: SimulatedOutcome) -> None:
        """Count one call by what the system did, whatever it answered."""
        self._requests.labels(system=system, outcome=outcome).inc()


class MetricsServer:
    """/metrics and /health/live on the unit's own event loop: a blocked loop does not answer, which is the truth.

    Speaks just enough HTTP/1.1 for a scraper: GET, one response, connection closed. Not for the public.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self._host, self._port = host, port
        self._registry = registry
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port listened on; the one the kernel chose where 0 was asked for."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is not ours or the port is taken.
        """
        self._server = await asyncio.start_server(self._answer, self._host, self._port, limit=_MAX_REQUEST_BYTES)

    async def stop(self) -> None:
        """Stop listening; answers under way are cut."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # a scraper that went away or talks nonsense is not this unit's problem
        finally:
            writer.close()

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in {b"GET", b"HEAD"}:
            return _http(405, b"", {"Allow": "GET, HEAD"})
        if path == b"/metrics":
            response = _http(200, generate_latest(self._registry), {"Content-Type": CONTENT_TYPE_LATEST})
        elif path == b"/health/live":
            response = _http(200, b'{"status":"live"}', {"Content-Type": "application/json"})
        else:
            response = _http(404, b"", {})
        return response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == b"HEAD" else response


def _http(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    reason = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}[status]
    fields = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + body
