"""The order projection's shadow in PostgreSQL, and the switch to it; see `app.application.projection_rebuild`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from psycopg import IsolationLevel

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.consumption import decode_order_event, snapshot_of
from app.application.projection_rebuild import Comparison, RebuildRefusedError, Source, TenantSnapshot
from app.application.repair import RepairReason
from app.runtime.ids import Ids

_SQL = NamedBlocks("projection_rebuild")
_BATCH = 1000


class PostgresShadowProjection:
    """See `app.application.projection_rebuild.ShadowProjection`.

    Args:
        connection: an operator's session, used for nothing else meanwhile.
        ids: identifiers of rebuilds.
        tenant_id: whose rows are rebuilt, or None for those of all tenants.
    """

    def __init__(self, connection: Connection, ids: Ids, tenant_id: str | None) -> None:
        self._connection = connection
        self._ids = ids
        self._tenant_id = tenant_id

    async def open(self, source: Source, reason: RepairReason) -> UUID:
        row = await (await self._connection.execute(_SQL["try_lock"])).fetchone()
        if row is None or not row["is_mine"]:
            raise RebuildRefusedError("another rebuild is running")
        rebuild_id = self._ids.new()
        values = {"rebuild_id": rebuild_id, "source": source, "operator": reason.operator, "reason": reason.text}
        async with self._connection.transaction():
            await self._connection.execute(_SQL["abandon_leftovers"])
            await self._connection.execute(_SQL["clear"])
            await self._connection.execute(_SQL["open"], values)
        return rebuild_id

    async def put(self, rebuild_id: UUID, snapshots: Sequence[TenantSnapshot]) -> None:
        columns = {
            "rebuild_id": rebuild_id,
            "tenant_ids": [item.tenant_id for item in snapshots],
            "order_ids": [item.snapshot.order_id for item in snapshots],
            "quote_ids": [item.snapshot.quote_id for item in snapshots],
            "customer_ids": [item.snapshot.customer_id for item in snapshots],
            "states": [item.snapshot.state for item in snapshots],
            "applied_seqs": [item.snapshot.applied_seq for item in snapshots],
            "currencies": [item.snapshot.currency for item in snapshots],
            "totals_one_time": [item.snapshot.total_one_time for item in snapshots],
            "totals_recurring": [item.snapshot.total_recurring for item in snapshots],
            "updated_ats": [item.snapshot.updated_at for item in snapshots],
        }
        await self._connection.execute(_SQL["put"], columns)

    @asynccontextmanager
    async def switching(self, rebuild_id: UUID) -> AsyncIterator[None]:
        # One snapshot for events, orders and shadow: what is compared is what was committed together.
        await self._connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        try:
            async with self._connection.transaction():
                await self._connection.execute(_SQL["hold_writers"])
                await self._connection.execute(_SQL["take_snapshot"])
                yield
        finally:
            await self._connection.set_isolation_level(None)

    async def compare_shadow(self, rebuild_id: UUID) -> Comparison:
        parameters = {"rebuild_id": rebuild_id, "tenant_id": self._tenant_id}
        row = await (await self._connection.execute(_SQL["compare_shadow"], parameters)).fetchone()
        if row is None:
            raise LookupError("an aggregate without a row")
        return Comparison(**row)

    async def replace(self, rebuild_id: UUID, events: int, checksum: str) -> int:
        parameters = {"rebuild_id": rebuild_id, "tenant_id": self._tenant_id, "events": events, "checksum": checksum}
        removed = await self._connection.execute(_SQL["remove"], parameters)
        replaced = await self._connection.execute(_SQL["replace"], parameters)
        await self._connection.execute(_SQL["switched"], parameters)
        return removed.rowcount + replaced.rowcount

    async def abandon(self, rebuild_id: UUID) -> None:
        async with self._connection.transaction():
            await self._connection.execute(_SQL["abandon"], {"rebuild_id": rebuild_id})
            await self._connection.execute(_SQL["clear"])


class OutboxHistory:
    """The events of orders as the outbox has them, published or not; see `app.application.projection_rebuild.EventHistory`.

    Args:
        connection: the rebuild's own session, so that the switch reads in its snapshot.
        topic: the topic of the order events.
        tenant_id: whose events are read, or None for those of all tenants.
    """

    def __init__(self, connection: Connection, topic: str, tenant_id: str | None) -> None:
        self._connection = connection
        self._topic = topic
        self._tenant_id = tenant_id

    async def read(self, rebuild_id: UUID) -> AsyncIterator[Sequence[TenantSnapshot]]:
        after = UUID(int=0)
        while True:
            parameters = {
                "rebuild_id": rebuild_id,
                "topic": self._topic,
                "tenant_id": self._tenant_id,
                "after": after,
                "limit": _BATCH,
            }
            rows = await (await self._connection.execute(_SQL["outbox_batch"], parameters)).fetchall()
            if not rows:
                return
            after = rows[-1]["aggregate_id"]
            events = [decode_order_event(row["payload"].encode()) for row in rows]
            yield [TenantSnapshot(event.tenant_id, snapshot_of(event)) for event in events]


async def compare_projection(connection: Connection, tenant_id: str | None, settle: timedelta) -> Comparison:
    """Hold the projection that serves against the orders, those changed within `settle` left out."""
    parameters = {"tenant_id": tenant_id, "settle": settle}
    row = await (await connection.execute(_SQL["compare_projection"], parameters)).fetchone()
    if row is None:
        raise LookupError("an aggregate without a row")
    return Comparison(**row)
