"""Reactions in PostgreSQL, as a worker carries them out; see `app.application.reaction_runs`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection, Pool
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, translated_errors
from app.application.reaction_runs import DueReaction, Reaction, ReactionUnitFactory
from app.domain.values import TenantId

_SQL = NamedBlocks("reaction_runs")


class PostgresReactionQueue:
    """See `app.application.reaction_runs.ReactionQueue`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, limit: int) -> Sequence[DueReaction]:
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["due"], {"limit": limit})
                return [DueReaction(row["reaction_id"], row["tenant_id"]) for row in await cursor.fetchall()]


class PostgresReactionRepository:
    """The reactions of one tenant, in the transaction of the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def claim(self, reaction_id: UUID, lease: timedelta) -> Reaction | None:
        cursor = await self._connection.execute(_SQL["claim"], {"reaction_id": reaction_id, "lease": lease})
        row = await cursor.fetchone()
        return None if row is None else Reaction(**row)

    async def finish(self, reaction_id: UUID, state: str, *, reference: str | None, error: str | None) -> None:
        values = {
            "reaction_id": reaction_id,
            "state": state,
            "external_reference": reference,
            "last_error": error,
        }
        await self._connection.execute(_SQL["finish"], values)

    async def postpone(
        self, reaction_id: UUID, delay: timedelta, error: str, *, is_counted: bool, now: datetime
    ) -> None:
        values = {
            "reaction_id": reaction_id,
            "delay": delay,
            "last_error": error,
            "uncounted": 0 if is_counted else 1,
            "now": now,
        }
        await self._connection.execute(_SQL["postpone"], values)


class PostgresReactionUnitOfWork(PostgresUnitOfWork):
    """A tenant's transaction that sees its reactions."""

    @cached_property
    def reactions(self) -> PostgresReactionRepository:
        return PostgresReactionRepository(self.connection)


def reaction_unit_factory(pool: Pool) -> ReactionUnitFactory:
    """Bind units of work to a pool."""

    def open_unit_of_work(tenant_id: TenantId) -> PostgresReactionUnitOfWork:
        return PostgresReactionUnitOfWork(pool, tenant_id)

    return open_unit_of_work
