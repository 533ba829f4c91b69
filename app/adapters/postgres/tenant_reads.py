"""Declared queries within one tenant; see `app.application.ports.DeclaredReads`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.adapters.postgres.pool import PASSING_ERRORS, Pool
from app.adapters.postgres.standby_reads import StandbyReads
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.application.ports import ConcurrentChange, StoreUnavailable, UnitOfWork
from app.domain.values import TenantId

T = TypeVar("T")

_FAILURES = (*PASSING_ERRORS, StoreUnavailable, ConcurrentChange)


class TenantReads:
    """Asks in read-only units of work."""

    def __init__(self, reads: StandbyReads) -> None:
        self._reads = reads

    async def read(self, query: str, tenant_id: TenantId, ask: Callable[[UnitOfWork], Awaitable[T | None]]) -> T | None:
        def open_on(pool: Pool) -> PostgresUnitOfWork:
            return PostgresUnitOfWork(pool, tenant_id, read_only=True)

        return await self._reads.read(query, open_on, ask, failures=_FAILURES)
