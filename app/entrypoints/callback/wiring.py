"""Puts the receiver together: the only place of this deployable that knows which technology is behind which port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import falcon.asgi
import psycopg
from falcon.asgi import Request, Response
from prometheus_client import CollectorRegistry

from app.adapters.postgres.external_callbacks import callback_transaction
from app.adapters.postgres.pool import make_pool, unit_parameters
from app.adapters.postgres.runtime_settings import followed
from app.adapters.postgres.schema import ensure_reachable
from app.application.callbacks import CallbackTransaction
from app.contracts.loader import load_external_systems
from app.entrypoints.callback.app import Sender, create_app
from app.messaging.retry import Unavailable
from app.runtime.clock import SystemClock
from app.runtime.ids import UuidV7Ids
from app.runtime.load import LoadMonitor
from app.runtime.logging import set_level
from app.runtime.metrics import CallbackMetrics
from app.settings.callback import CallbackSettings
from app.settings.reader import runtime_settings


@asynccontextmanager
async def started_app(
    settings: CallbackSettings, release_id: str, registry: CollectorRegistry, load: LoadMonitor
) -> AsyncIterator[falcon.asgi.App[Request, Response]]:
    """Connect, check, and hand out the application; on leaving, give everything back.

    Raises:
        Unavailable: the database does not answer.
        SchemaTooOldError: a migration is missing.
    """
    parameters = unit_parameters(settings, release_id)
    try:
        await ensure_reachable(parameters)
    except psycopg.OperationalError as error:
        raise Unavailable("database", str(error)) from error
    senders = {
        name: Sender(settings.secrets_of(name), policy.callback.window)
        for name, policy in load_external_systems().items()
        if policy.callback.window is not None
    }
    ids = UuidV7Ids()
    pool = make_pool(parameters, max_size=settings.db_pool_max, wait=settings.db_statement_timeout)
    load.watch_pool(pool.get_stats)

    def open_transaction(tenant: str) -> AbstractAsyncContextManager[CallbackTransaction]:
        return callback_transaction(pool, tenant, ids)

    runtime = runtime_settings(settings)
    runtime.on_change("LOG_LEVEL", set_level)
    async with pool, followed(parameters, "callback", runtime):
        yield create_app(senders, open_transaction, SystemClock(), CallbackMetrics(registry))
