"""Every metric of the platform, declared once, and the small HTTP server by which a unit without an API shows its own.

A unit builds only the classes it feeds: a figure that a unit cannot know is absent from its /metrics, never 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
ReadServer = Literal["standby", "primary"]
ReadFallback = Literal["stale", "unknown", "absent", "unavailable"]
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


class LoadMetrics:
    """How loaded a process is, and which release it runs. The figures of several processes of a unit add up."""

    def __init__(self, registry: CollectorRegistry, release_id: str) -> None:
        self._lag = Histogram(
            "cpq_event_loop_lag_seconds",
            "How much later than it should the event loop came round.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
            registry=registry,
        )
        self._cpu = Counter("cpq_process_cpu_seconds_total", "Time of the processor that was used.", registry=registry)
        self._resident = Gauge(
            "cpq_process_resident_bytes", "Memory in use.", registry=registry, multiprocess_mode="livesum"
        )
        self._connections = Gauge(
            "cpq_db_pool_connections",
            "Database connections of the pool, by state.",
            ["state"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._requests = Counter("cpq_db_pool_requests_total", "Connections asked for.", registry=registry)
        self._waited = Counter("cpq_db_pool_wait_seconds_total", "Time waited for connections.", registry=registry)
        self._failed = Counter("cpq_db_pool_timeouts_total", "Connections not given in time.", registry=registry)
        self._before: dict[str, int] = {}
        release = Gauge(
            "cpq_unit_release",
            "1 for the release that runs.",
            ["release"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        release.labels(release=release_id).set(1)

    def lag(self, seconds: float) -> None:
        """Observe how late the loop was once."""
        self._lag.observe(seconds)

    def process(self, cpu_seconds: float, resident_bytes: int) -> None:
        """Add what was used of the processor since the last time, and set what is used of the memory."""
        self._cpu.inc(cpu_seconds)
        self._resident.set(resident_bytes)

    def pool(self, figures: Mapping[str, int]) -> None:
        """Show the figures of the process's connection pool, as psycopg_pool counts them from its beginning."""
        size, free = figures.get("pool_size", 0), figures.get("pool_available", 0)
        self._connections.labels(state="in_use").set(size - free)
        self._connections.labels(state="idle").set(free)
        self._connections.labels(state="waited_for").set(figures.get("requests_waiting", 0))
        for name, counter, unit in (
            ("requests_num", self._requests, 1),
            ("requests_wait_ms", self._waited, 1000),
            ("requests_errors", self._failed, 1),
        ):
            now = figures.get(name, 0)
            counter.inc(max(0, now - self._before.get(name, 0)) / unit)
            self._before[name] = now


class StandbyReadMetrics:
    """Queries that a standby may answer: which server did, and why the primary had to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reads = Counter(
            "cpq_db_reads_total",
            "Queries that a standby may answer, by the server that did.",
            ["query", "server"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "cpq_db_read_fallbacks_total",
            "Queries that a standby was asked for and the primary answered.",
            ["query", "reason"],
            registry=registry,
        )
        self._staleness = Gauge(
            "cpq_db_standby_staleness_seconds",
            "How old what the standby shows was at most when it was last asked.",
            registry=registry,
            multiprocess_mode="livemax",
        )

    def read(self, query: str, server: ReadServer) -> None:
        """Count one answered query."""
        self._reads.labels(query=query, server=server).inc()

    def fell_back(self, query: str, reason: ReadFallback) -> None:
        """Count one query that went on to the primary."""
        self._fallbacks.labels(query=query, reason=reason).inc()

    def staleness(self, seconds: float) -> None:
        """Set how old the standby's rows are at most."""
        self._staleness.set(seconds)


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

        self._in_flight = Gauge(
            "cpq_api_requests_in_flight",
            "Requests that were begun and not yet answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request as being under way, however it ends."""
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()

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


class QuoteMetrics:
    """Quotes that reached a state, counted by the process that committed it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._quotes = Counter("cpq_quotes_total", "Quotes that reached a state.", ["state"], registry=registry)

    def reached(self, state: str) -> None:
        """Count one committed transition into `state`."""
        self._quotes.labels(state=state).inc()


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

        self._in_flight = Gauge(
            "cpq_worker_jobs_in_flight", "Jobs taken and not yet settled.", ["job_type"], registry=registry
        )

    def in_flight(self, job_type: str, jobs: int) -> None:
        """Set how many jobs of a type this process holds."""
        self._in_flight.labels(job_type=job_type).set(jobs)

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


class RoleMetrics:
    """A role of which two colours may be up, as one process of a colour sees it."""

    def __init__(self, registry: CollectorRegistry, role: str, colour: str) -> None:
        self._labels = {"role": role, "colour": colour}
        self._works = Gauge(
            "cpq_role_works",
            "1 while this process works for its role, 0 while it stands by for another colour.",
            list(self._labels),
            registry=registry,
        )
        self._epoch = Gauge(
            "cpq_role_epoch", "The role's epoch as this process last saw it.", list(self._labels), registry=registry
        )

    def standing(self, epoch: int, *, works: bool) -> None:
        """Set the role's epoch and whether this process works in it."""
        self._works.labels(**self._labels).set(works)
        self._epoch.labels(**self._labels).set(epoch)


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


class EngineMetrics:
    """The workflow engine as its exported records tell it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._instances = Gauge(
            "cpq_engine_instances_active", "Process instances that live.", ["process", "version"], registry=registry
        )
        self._waiting = Gauge(
            "cpq_engine_jobs_waiting", "Jobs that no worker has taken.", ["job_type"], registry=registry
        )
        self._incidents = Gauge("cpq_engine_incidents_open", "Open incidents.", ["process"], registry=registry)
        self._activation = Histogram(
            "cpq_engine_job_activation_seconds",
            "Time from a job's creation until a worker took it.",
            ["job_type"],
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
            registry=registry,
        )
        self._read_at = Gauge(
            "cpq_engine_records_read_timestamp_seconds",
            "When the records were last read to their end.",
            registry=registry,
        )

    def activated(self, job_type: str, seconds: float) -> None:
        """Observe how long a job has waited."""
        self._activation.labels(job_type=job_type).observe(seconds)

    def seen(
        self,
        at: float,
        *,
        instances: Mapping[tuple[str, str], int],
        waiting: Mapping[str, int],
        incidents: Mapping[str, int],
    ) -> None:
        """Set what there is, as read up to a time in seconds since the epoch."""
        for (process, version), number in instances.items():
            self._instances.labels(process=process, version=version).set(number)
        for job_type, number in waiting.items():
            self._waiting.labels(job_type=job_type).set(number)
        for process, number in incidents.items():
            self._incidents.labels(process=process).set(number)
        self._read_at.set(at)


class ConsoleMetrics:
    """Who came to the console, and what machines handed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._logins = Counter("cpq_console_logins_total", "Attempts to log in.", ["outcome"], registry=registry)
        self._alerts = Counter("cpq_console_alerts_total", "Alerts received.", ["status"], registry=registry)
        self._spans = Counter("cpq_console_spans_total", "Spans received.", registry=registry)

    def login(self, outcome: str) -> None:
        """Count one attempt."""
        self._logins.labels(outcome=outcome).inc()

    def alert(self, status: str) -> None:
        """Count one alert."""
        self._alerts.labels(status=status).inc()

    def spans(self, number: int) -> None:
        """Count spans."""
        self._spans.inc(number)


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


class TraceMetrics:
    """What became of the spans of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._spans = Counter("cpq_trace_spans_total", "Spans that ended.", ["outcome"], registry=registry)
        for outcome in ("sent", "failed", "dropped"):
            self._spans.labels(outcome=outcome)

    def sent(self, spans: int) -> None:
        """Count spans that the receiver has."""
        self._spans.labels(outcome="sent").inc(spans)

    def failed(self, spans: int) -> None:
        """Count spans that could not be sent."""
        self._spans.labels(outcome="failed").inc(spans)

    def dropped(self, spans: int) -> None:
        """Count spans for which the queue had no room."""
        self._spans.labels(outcome="dropped").inc(spans)


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
