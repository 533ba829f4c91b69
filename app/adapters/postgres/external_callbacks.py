"""Callbacks of external systems in PostgreSQL: one short transaction each, of the tenant they are for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection, Pool
from app.application.callbacks import CalledBack, Disposition, ReceivedCallback
from app.messaging.retry import Unavailable
from app.runtime.ids import Ids

_SQL = NamedBlocks("external_callbacks")


class PostgresCallbackTransaction:
    """See `app.application.callbacks.CallbackTransaction`."""

    def __init__(self, connection: Connection, ids: Ids) -> None:
        self._connection = connection
        self._ids = ids

    async def call_of(self, callback: ReceivedCallback) -> CalledBack | None:
        row = await (await self._connection.execute(_SQL["call_of"], asdict(callback))).fetchone()
        return None if row is None else CalledBack(row["order_state"], row["attempt_state"])

    async def add(self, callback: ReceivedCallback, disposition: Disposition) -> bool:
        values = {**asdict(callback), "disposition": disposition, "audit_id": self._ids.new()}
        return (await self._connection.execute(_SQL["add"], values)).rowcount == 1

    async def body_of(self, callback: ReceivedCallback) -> str | None:
        row = await (await self._connection.execute(_SQL["body_of"], asdict(callback))).fetchone()
        return None if row is None else str(row["body_sha256"])


@asynccontextmanager
async def callback_transaction(pool: Pool, tenant_id: str, ids: Ids) -> AsyncIterator[PostgresCallbackTransaction]:
    """A transaction of one tenant, committed at the end of the block unless it raises.

    Raises:
        Unavailable: the database cannot be asked now; whether it committed is unknown when that happens at the end.
    """
    try:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute(_SQL["tenant"], {"tenant_id": tenant_id})
            yield PostgresCallbackTransaction(connection, ids)
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, PoolTimeout, PoolClosed) as error:
        raise Unavailable("database", type(error).__name__) from error
