"""Fulfillment tasks, external call attempts and fallout cases in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from psycopg.errors import UniqueViolation

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.ports import ConcurrentChange
from app.domain.external_calls import AttemptState, ExternalCallAttempt
from app.domain.fulfillment import FalloutCase, FulfillmentTask, HeldJob, TaskState
from app.domain.values import OrderId

_SQL = NamedBlocks("fulfillment")


class PostgresFulfillmentRepository:
    """See `app.application.ports.FulfillmentRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, tasks: Sequence[FulfillmentTask]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(_SQL["add"], [asdict(task) for task in tasks])

    async def tasks(self, order_id: OrderId) -> list[FulfillmentTask]:
        cursor = await self._connection.execute(_SQL["tasks"], {"order_id": order_id})
        return [
            FulfillmentTask(
                order_id=row["order_id"],
                tenant_id=row["tenant_id"],
                step=row["step"],
                state=TaskState(row["state"]),
                updated_at=row["updated_at"],
                run_count=row["run_count"],
                external_reference=row["external_reference"],
                last_error=row["last_error"],
                epoch=row["epoch"],
                waiting_since=row["waiting_since"],
            )
            for row in await cursor.fetchall()
        ]

    async def save(self, task: FulfillmentTask) -> None:
        await self._connection.execute(_SQL["save"], asdict(task))

    async def begin(self, task: FulfillmentTask, job: HeldJob) -> None:
        await self._connection.execute(_SQL["begin"], asdict(task) | asdict(job))

    async def forget_jobs(self, order_id: OrderId) -> None:
        await self._connection.execute(_SQL["forget_jobs"], {"order_id": order_id})

    async def last_attempt(self, order_id: OrderId, step: str) -> ExternalCallAttempt | None:
        cursor = await self._connection.execute(_SQL["last_attempt"], {"order_id": order_id, "step": step})
        row = await cursor.fetchone()
        return None if row is None else ExternalCallAttempt(**{**row, "state": AttemptState(row["state"])})

    async def add_attempt(self, attempt: ExternalCallAttempt) -> None:
        try:
            await self._connection.execute(_SQL["add_attempt"], asdict(attempt))
        except UniqueViolation as error:
            raise ConcurrentChange("external call attempt") from error

    async def save_attempt(self, attempt: ExternalCallAttempt) -> None:
        await self._connection.execute(_SQL["save_attempt"], asdict(attempt))

    async def open_fallout(self, case: FalloutCase) -> bool:
        cursor = await self._connection.execute(_SQL["open_fallout"], asdict(case))
        return cursor.rowcount == 1
