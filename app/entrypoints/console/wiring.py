"""Puts the console together: the only place of this deployable that knows which technology is behind which page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from app.adapters.files.journal import lines_with
from app.adapters.http.monitoring import Monitoring
from app.adapters.kafka.connection import KafkaConnection
from app.adapters.kafka.engine_following import FollowingStoppedError, follow
from app.adapters.postgres.order_history import OrderHistory
from app.adapters.postgres.pool import make_pool, unit_parameters
from app.adapters.postgres.standby_reads import StandbyReads, standby_pool
from app.adapters.sqlite.engine_store import EngineStore, Exported
from app.adapters.sqlite.intake_store import IntakeStore
from app.contracts.loader import load_standby_reads
from app.entrypoints.console.app import Sources, create_app
from app.entrypoints.console.dashboards import load_dashboards
from app.entrypoints.console.intake import create_alerts_intake, create_intake
from app.entrypoints.console.sessions import Sessions
from app.runtime.clock import Clock, SystemClock
from app.runtime.load import LoadMonitor
from app.runtime.logging import get_logger, set_level
from app.runtime.metrics import ConsoleMetrics, EngineMetrics, StandbyReadMetrics
from app.settings.console import ConsoleSettings

log = get_logger(__name__)

_RETRY_SECONDS = 5.0
_FORGET_SECONDS = 600.0
_FIGURES_SECONDS = 5.0
# Older jobs, read again after a restart, say nothing of now.
_RECENT_MS = 300_000


@dataclass(frozen=True, slots=True)
class Console:
    """What is served: pages for people, and where units hand in spans and this host's Alertmanager its alerts."""

    pages: Any
    intake: Any
    alerts: Any


class EngineFollower:
    """Keeps the store level with the engine's topic in a thread of its own, and shows figures of it.

    Args:
        store: where it is kept.
        connection: the brokers.
        metrics: the figures.
        clock: wall time.
    """

    def __init__(self, connection: KafkaConnection, metrics: EngineMetrics, clock: Clock, path: Path) -> None:
        self._connection, self._metrics, self._clock = connection, metrics, clock
        self.store = EngineStore(path, self._activated)
        self._stop = threading.Event()
        self._read_at: datetime | None = None
        self._shown_at = 0.0

    def read_up_to(self) -> datetime | None:
        """Until when the records have been read; None where nothing was since the start."""
        return self._read_at

    async def run(self) -> None:
        """Follow until cancelled; brokers that are away are asked again."""
        try:
            while True:
                try:
                    await asyncio.to_thread(follow, self._connection, self.store.places(), self._take, self._stop)
                except FollowingStoppedError as error:
                    log.warning("engine records cannot be read", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._stop.set()

    def _take(self, records: Sequence[tuple[int, int, Mapping[str, Any]]]) -> None:
        if records:
            self.store.apply(Exported(*one) for one in records)
        self._read_at = self._clock.now()
        if self._clock.monotonic() - self._shown_at >= _FIGURES_SECONDS:
            self._shown_at = self._clock.monotonic()
            self._show()

    def _activated(self, job_type: str, seconds: float, at_ms: int) -> None:
        if self._clock.now().timestamp() * 1000 - at_ms < _RECENT_MS:
            self._metrics.activated(job_type, seconds)

    def _show(self) -> None:
        versions, jobs = self.store.versions(), self.store.jobs()
        incidents = {row["process"]: 0 for row in versions}
        for row in self.store.incidents():
            incidents[row["process"]] = incidents.get(row["process"], 0) + 1
        self._metrics.seen(
            self._clock.now().timestamp(),
            instances={(row["process"], str(row["version"])): row["active"] for row in versions},
            waiting={row["type"]: row["waiting"] for row in jobs},
            incidents=incidents,
        )


@asynccontextmanager
async def started_console(
    settings: ConsoleSettings, release_id: str, registry: CollectorRegistry, load: LoadMonitor
) -> AsyncIterator[Console]:
    """Open the stores and hand out what is served; on leaving, give everything back.

    Nothing that the pages ask need be there: a console is wanted most when something is away.

    Raises:
        sqlite3.Error: the state directory is not usable.
    """
    clock, state = SystemClock(), Path(settings.state_directory)
    metrics = ConsoleMetrics(registry)
    parameters = unit_parameters(settings, release_id)
    connection = KafkaConnection.of(settings)
    pool = make_pool(parameters, max_size=settings.db_pool_max, wait=settings.db_statement_timeout)
    load.watch_pool(pool.get_stats)
    read_pool = standby_pool(parameters, settings.db_read_url, max_size=settings.db_read_pool_max)
    reads = StandbyReads(pool, read_pool, load_standby_reads("console"), StandbyReadMetrics(registry), clock)
    intake = IntakeStore(state / "intake.sqlite3")
    engine = EngineFollower(connection, EngineMetrics(registry), clock, state / "engine.sqlite3")
    monitoring = Monitoring(settings.console_prometheus_url, settings.console_alertmanager_url)
    sources = Sources(
        environment=settings.app_env,
        dashboards=load_dashboards(),
        monitoring=monitoring,
        history=OrderHistory(reads),
        engine=engine.store,
        read_up_to=engine.read_up_to,
        intake=intake,
        journal=lines_with,
        clock=clock,
        secure=settings.console_tls == "on",
    )
    sessions = Sessions(settings.console_password.get_secret_value(), clock)
    set_level(settings.log_level)
    async with pool, reads.following(pool):
        background = [
            asyncio.create_task(engine.run()),
            asyncio.create_task(_forget(settings, clock, intake, engine.store)),
        ]
        try:
            yield Console(
                create_app(sources, sessions, metrics),
                create_intake(intake, metrics),
                create_alerts_intake(intake, clock, metrics),
            )
        finally:
            for task in background:
                task.cancel()
            for task in background:
                with suppress(asyncio.CancelledError):
                    await task
            await monitoring.close()


async def _forget(settings: ConsoleSettings, clock: Clock, intake: IntakeStore, engine: EngineStore) -> None:
    """Drop what is too old, now and every while."""
    while True:
        before = int((clock.now() - settings.console_retention).astimezone(UTC).timestamp() * 1000)
        await asyncio.to_thread(intake.forget, before)
        await asyncio.to_thread(engine.forget, before)
        await asyncio.sleep(_FORGET_SECONDS)
