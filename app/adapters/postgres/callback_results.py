"""What the receiver of callbacks wrote down, for the worker that waits for it."""

from __future__ import annotations

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Pool
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, translated_errors
from app.application.called_back_system import CallbackVerdict
from app.domain.external_calls import tenant_of

_SQL = NamedBlocks("callback_results")


class PostgresCallbackVerdicts:
    """See `app.application.called_back_system.CallbackVerdicts`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of_call(self, system: str, idempotency_key: str) -> CallbackVerdict | None:
        tenant = tenant_of(idempotency_key)
        async with PostgresUnitOfWork(self._pool, tenant) as uow:
            with translated_errors():
                cursor = await uow.connection.execute(
                    _SQL["of_call"],
                    {"tenant_id": tenant, "system": system, "idempotency_key": idempotency_key},
                )
                row = await cursor.fetchone()
        return None if row is None else CallbackVerdict(**row)
