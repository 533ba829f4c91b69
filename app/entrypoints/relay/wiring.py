"""Puts the relay together: the only place of this deployable that knows which technology is behind which port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import CollectorRegistry

from app.adapters.kafka.connection import KafkaConnection
from app.adapters.kafka.producer import KafkaEventPublisher
from app.adapters.postgres.outbox import OutboxListener, PostgresRelayStore
from app.adapters.postgres.pool import make_pool, unit_parameters
from app.adapters.postgres.role_epochs import PostgresEpochStore
from app.adapters.postgres.runtime_settings import followed
from app.entrypoints.relay.loop import Pace, Relay
from app.messaging.colours import Colour, HeldEpoch, RoleProcess, Standing
from app.messaging.payload_contract import SchemaContract
from app.messaging.retry import Backoff
from app.runtime.clock import SystemClock
from app.runtime.load import LoadMonitor
from app.runtime.logging import set_level
from app.runtime.metrics import RelayMetrics, RoleMetrics
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown
from app.settings.reader import runtime_settings
from app.settings.relay import RelaySettings

# One works, one is there for the moment in which the pool replaces a broken one.
_CONNECTIONS = 2
_ROLE = "relay"


@asynccontextmanager
async def started_relay(
    settings: RelaySettings,
    release_id: str,
    registry: CollectorRegistry,
    notifier: Notifier,
    shutdown: Shutdown,
    *,
    load: LoadMonitor,
) -> AsyncIterator[Relay]:
    """Connect, check, and hand out a relay whose start-up checks have passed; on leaving, give everything back.

    Raises:
        Unavailable: the database does not answer.
        SchemaTooOldError: a migration is missing.
    """
    parameters = unit_parameters(settings, release_id, _ROLE)
    pace = Pace(
        batch_size=settings.relay_batch_size,
        poll_interval=settings.relay_poll_interval.total_seconds(),
        lease_duration=settings.relay_lease_duration,
    )
    connection = KafkaConnection.of(settings)
    clock, wake = SystemClock(), asyncio.Event()
    held = HeldEpoch()
    pool = make_pool(parameters, max_size=_CONNECTIONS, wait=settings.db_statement_timeout, held=lambda: held.epoch)
    load.watch_pool(pool.get_stats)
    runtime = runtime_settings(settings)
    runtime.on_change("LOG_LEVEL", set_level)
    process = RoleProcess(settings.app_instance_id, _ROLE, Colour(settings.app_colour), release_id)
    observer = RoleMetrics(registry, process.role, process.colour)
    async with pool, followed(parameters, "relay", runtime):
        store = PostgresRelayStore(pool, owner=settings.app_instance_id)
        await store.check_schema()
        async with Standing(PostgresEpochStore(pool), process, held, clock, observer) as standing:
            relay = Relay(
                store=store,
                contract=SchemaContract(),
                publisher=KafkaEventPublisher(connection, clock, pace.send_patience),
                standing=standing,
                wake=wake,
                shutdown=shutdown,
                metrics=RelayMetrics(registry),
                notifier=notifier,
                clock=clock,
                pace=pace,
                event_backoff=Backoff(initial=1, maximum=300),
                outage_backoff=Backoff(initial=0.5, maximum=10),
            )
            await relay.start()
            listening = asyncio.create_task(OutboxListener(parameters, wake).run())
            try:
                yield relay
            finally:
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening
                await relay.stop()
