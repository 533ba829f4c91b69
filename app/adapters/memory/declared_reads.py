"""Declared queries of a store that has no standby, for unit tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.application.ports import UnitOfWork, UnitOfWorkFactory
from app.domain.values import TenantId

T = TypeVar("T")


class MemoryDeclaredReads:
    """See `app.application.ports.DeclaredReads`; `asked` names the queries that were asked."""

    def __init__(self, open_unit_of_work: UnitOfWorkFactory) -> None:
        self._open_unit_of_work = open_unit_of_work
        self.asked: list[str] = []

    async def read(self, query: str, tenant_id: TenantId, ask: Callable[[UnitOfWork], Awaitable[T | None]]) -> T | None:
        self.asked.append(query)
        async with self._open_unit_of_work(tenant_id) as uow:
            return await ask(uow)
