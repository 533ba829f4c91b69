"""Puts the application together from the real collaborators; runs in each worker, after the fork."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import falcon.asgi
import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from redis.asyncio import Redis

from app.adapters.postgres.flag_reader import PostgresFeatureFlags
from app.adapters.postgres.pool import Pool, make_pool, unit_parameters
from app.adapters.postgres.runtime_settings import followed
from app.adapters.postgres.schema import ensure_reachable, ensure_schema
from app.adapters.postgres.standby_reads import StandbyReads, standby_pool
from app.adapters.postgres.tenant_reads import TenantReads
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.adapters.redis.catalog_cache import RedisCatalogCache
from app.adapters.redis.connection import connect
from app.adapters.redis.guard import TIMEOUT_S, RedisGuard
from app.adapters.redis.keys import Keys
from app.adapters.redis.rate_limiter import RedisRateLimiter
from app.application.offerings import CatalogRefresh, OfferingReader
from app.application.orders import OrderCommands
from app.application.process_routing import order_routing
from app.application.publication import Publication
from app.application.queries import Queries
from app.application.quotes import QuoteCommands
from app.application.rate_limiting import LocalRateLimiter
from app.contracts import loader
from app.domain.values import TenantId
from app.entrypoints.api.app import Dependencies, create_app
from app.entrypoints.api.health import CAMUNDA_LOST, DATABASE_LOST, KAFKA_LOST, REDIS_LOST, Probe, answers
from app.entrypoints.api.resources.openapi import as_json
from app.entrypoints.api.supervision import ProgressPipe
from app.entrypoints.api.tokens import SigningKeys, TokenVerifier
from app.runtime.clock import SystemClock
from app.runtime.health import DependencyStatus, tcp_reachability
from app.runtime.ids import UuidV7Ids
from app.runtime.load import LoadMonitor
from app.runtime.logging import set_level
from app.runtime.metrics import ApiMetrics, LoadMetrics, OrderMetrics, QuoteMetrics, StandbyReadMetrics
from app.runtime.release import installed_release
from app.runtime.runtime_settings import RuntimeSettings
from app.runtime.trace_export import exported
from app.settings.api import ApiSettings
from app.settings.reader import runtime_settings

_HEALTH_PATIENCE = timedelta(seconds=1)


class ApiLifespan:
    """Opens what the application uses, checks it, and reports that the event loop comes round.

    Args:
        database: how to connect, for the check at the start.
        pool: for the requests.
        reads: those of them that a standby may answer.
        health_pool: one connection for health checks, so that a busy service is not taken for a broken one.
        redis: the cache, never checked at the start.
        http: for the issuer's keys; the issuer need not be there at the start.
        keys: the issuer's keys.
        progress: where to report, and how often in seconds.
        load: shows how loaded this process is.
        traces: sends spans while it is open.
        runtime: settings that change while the process runs.
        refresh: told of published catalogs.
        is_first_start: False in a worker that replaces another: with the database away it must wait like its siblings
            instead of taking the service down.
    """

    def __init__(
        self,
        *,
        database: dict[str, Any],
        pool: Pool,
        reads: StandbyReads,
        health_pool: Pool,
        redis: Redis,
        http: httpx.AsyncClient,
        keys: SigningKeys,
        progress: tuple[ProgressPipe, float],
        load: LoadMonitor,
        traces: AbstractAsyncContextManager[None],
        runtime: RuntimeSettings,
        refresh: CatalogRefresh,
        is_first_start: bool,
    ) -> None:
        self._database = database
        self._pool = pool
        self._reads = reads
        self._health_pool = health_pool
        self._redis = redis
        self._http = http
        self._keys = keys
        self._progress = progress
        self._load = load
        self._traces = traces
        self._runtime = runtime
        self._refresh = refresh
        self._is_first_start = is_first_start
        self._following = AsyncExitStack()
        self._reporting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def has_started(self) -> bool:
        return self._reporting is not None

    async def start(self) -> None:
        if self._is_first_start:
            await ensure_reachable(self._database)
        await self._following.enter_async_context(self._traces)
        await self._pool.open()
        await self._health_pool.open()
        await self._following.enter_async_context(followed(self._database, "api", self._runtime, self._on_publication))
        await self._following.enter_async_context(self._reads.following(self._health_pool))
        await self._keys.refresh()
        self._reporting = asyncio.create_task(self._report_progress())
        self._watching = asyncio.create_task(self._load.run())

    async def stop(self) -> None:
        for task in (self._reporting, self._watching):
            if task is not None:
                task.cancel()
        await self._following.aclose()
        await self._http.aclose()
        await self._redis.aclose()
        await self._health_pool.close()
        await self._pool.close()

    async def check_database(self) -> None:
        """Return when the database serves this release's schema; any exception is a no."""
        async with self._health_pool.connection() as connection:
            await ensure_schema(connection)

    async def _on_publication(self, tenant: str) -> None:
        await self._refresh.published(TenantId(tenant))

    async def _report_progress(self) -> None:
        pipe, interval = self._progress
        while True:
            pipe.report()
            await asyncio.sleep(interval)


def build(
    settings: ApiSettings, metrics_directory: Path, progress: tuple[ProgressPipe, float], *, is_first_start: bool
) -> CountedApp:
    """Make the application of one worker; connections are opened when it starts."""
    clock, ids = SystemClock(), UuidV7Ids()
    contracts = loader.load()
    parameters = unit_parameters(settings, installed_release().release_id)
    pool = make_pool(parameters, max_size=settings.db_pool_max, wait=settings.db_statement_timeout)
    load = LoadMonitor(LoadMetrics(CollectorRegistry(), installed_release().release_id), clock)
    load.watch_pool(pool.get_stats)
    health_pool = make_pool(parameters, max_size=1, wait=_HEALTH_PATIENCE)
    read_pool = standby_pool(parameters, settings.db_read_url, max_size=settings.db_read_pool_max)
    reads = StandbyReads(
        pool, read_pool, loader.load_standby_reads("api"), StandbyReadMetrics(CollectorRegistry()), clock
    )
    redis = connect(settings.redis_url, settings.redis_password.get_secret_value(), settings.tls_ca_file, TIMEOUT_S)
    # Authorities are those of the host: an issuer inside an enterprise has a certificate of its own.
    http = httpx.AsyncClient(follow_redirects=False, trust_env=False, verify=ssl.create_default_context())
    keys = SigningKeys(settings.auth_jwks_url, http, clock)
    runtime = runtime_settings(settings)
    runtime.on_change("LOG_LEVEL", set_level)
    guard, redis_keys = RedisGuard(redis, clock), Keys(contracts.redis, settings.app_env)
    cache = RedisCatalogCache(guard, redis_keys)
    open_unit_of_work = unit_of_work_factory(pool)
    lifespan = ApiLifespan(
        database=parameters,
        pool=pool,
        reads=reads,
        health_pool=health_pool,
        redis=redis,
        http=http,
        keys=keys,
        progress=progress,
        load=load,
        traces=exported(CollectorRegistry(), installed_release().release_id, settings.traces_of("api")),
        runtime=runtime,
        refresh=CatalogRefresh(open_unit_of_work, cache),
        is_first_start=is_first_start,
    )
    offerings = OfferingReader(cache)
    limits = loader.load_rate_limits()
    limiter = RedisRateLimiter(guard, redis_keys, limits, LocalRateLimiter(limits, settings.processes, clock), clock)
    publication = Publication(contracts.topics, ids)
    flags = PostgresFeatureFlags(pool, {name: flag.default for name, flag in contracts.flags.items()})
    requests = ApiMetrics(CollectorRegistry())
    app = create_app(
        Dependencies(
            quotes=QuoteCommands(
                open_unit_of_work=open_unit_of_work,
                offerings=offerings,
                publication=publication,
                clock=clock,
                ids=ids,
            ),
            orders=OrderCommands(
                open_unit_of_work=open_unit_of_work,
                offerings=offerings,
                publication=publication,
                routing=order_routing(contracts.processes, flags),
                clock=clock,
                ids=ids,
            ),
            queries=Queries(open_unit_of_work, TenantReads(reads)),
            verifier=TokenVerifier(keys, issuer=settings.auth_issuer, audience=settings.auth_audience),
            clock=clock,
            ids=ids,
            limiter=limiter,
            limits=limits,
            requests=requests,
            order_metrics=OrderMetrics(CollectorRegistry()),
            quote_metrics=QuoteMetrics(CollectorRegistry()),
            metrics_registry=lambda: _all_workers(metrics_directory),
            ask_database=lambda: answers(clock, "postgresql", lifespan.check_database, DATABASE_LOST, required=True),
            ask_others=_other_dependencies(settings, redis, clock),
            lifespan=lifespan,
            openapi=as_json(loader.DIRECTORY / "openapi.yml"),
            internal_port=settings.metrics_bind.port,
        )
    )
    return CountedApp(app, requests)


class CountedApp:
    """The application with its requests counted while they are under way, those that a client breaks off included."""

    def __init__(self, app: falcon.asgi.App[Any, Any], metrics: ApiMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._metrics.in_flight():
            await self._app(scope, receive, send)


def _all_workers(directory: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    return registry


def _other_dependencies(settings: ApiSettings, redis: Redis, clock: SystemClock) -> list[Probe]:
    async def ping() -> None:
        await redis.ping()

    async def redis_status() -> DependencyStatus:
        return await answers(clock, "redis", ping, REDIS_LOST)

    async def kafka_status() -> DependencyStatus:
        servers = ",".join(str(address) for address in settings.kafka_bootstrap_servers)
        return await tcp_reachability(clock, "kafka", servers, KAFKA_LOST)

    async def camunda_status() -> DependencyStatus:
        gateways = ",".join(str(address) for address in settings.camunda_grpc_address)
        return await tcp_reachability(clock, "camunda", gateways, CAMUNDA_LOST)

    return [redis_status, kafka_status, camunda_status]
