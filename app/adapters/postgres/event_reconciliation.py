"""What the reconciliation group compares and finds, in PostgreSQL; see `app.application.event_reconciliation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.event_reconciliation import Finding, KnownOrder

_SQL = NamedBlocks("event_reconciliation")


class PostgresReconciliationBook:
    """Orders, seen events and findings of one tenant, in the transaction of the connection."""

    def __init__(self, connection: Connection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def orders(self, order_ids: Sequence[UUID]) -> Mapping[UUID, KnownOrder]:
        cursor = await self._connection.execute(_SQL["orders"], {"order_ids": list(order_ids)})
        return {
            row["order_id"]: KnownOrder(
                aggregate_seq=row["aggregate_seq"],
                currency=row["currency"],
                total_one_time=row["total_one_time"],
                total_recurring=row["total_recurring"],
                states={int(sequence): state for sequence, state in row["states"].items()},
            )
            async for row in cursor
        }

    async def see(self, order_id: UUID, aggregate_seq: int, event_id: UUID) -> UUID:
        place = {"order_id": order_id, "aggregate_seq": aggregate_seq}
        values = {**place, "tenant_id": self._tenant_id, "event_id": event_id}
        await self._connection.execute(_SQL["see"], values)
        row = await (await self._connection.execute(_SQL["seen"], place)).fetchone()
        # A place that another tenant's row has is invisible here: the event is then nobody's repetition.
        return row["event_id"] if row else event_id

    async def has_seen(self, order_id: UUID, aggregate_seq: int) -> bool:
        place = {"order_id": order_id, "aggregate_seq": aggregate_seq}
        return await (await self._connection.execute(_SQL["seen"], place)).fetchone() is not None

    async def close_gap(self, order_id: UUID, aggregate_seq: int) -> None:
        place = {"order_id": order_id, "aggregate_seq": aggregate_seq}
        await self._connection.execute(_SQL["close_gap"], place)

    async def add(self, findings: Sequence[Finding]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(
                _SQL["add"], [{**asdict(finding), "tenant_id": self._tenant_id} for finding in findings]
            )


async def open_findings(
    connection: Connection, tenant_id: str | None, limit: int
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Open findings of a tenant or of all: how many of each kind, and the newest; for operators."""
    parameters = {"tenant_id": tenant_id, "limit": limit}
    counted = await (await connection.execute(_SQL["open_counts"], parameters)).fetchall()
    newest = await (await connection.execute(_SQL["open_findings"], parameters)).fetchall()
    return {row["kind"]: row["findings"] for row in counted}, [dict(row) for row in newest]
