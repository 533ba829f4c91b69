"""Read models in PostgreSQL; see `app.application.projections`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.consumption import OrderSnapshot

_SQL = NamedBlocks("projections")


class PostgresOrderProjection:
    """The order projection of one tenant, in the transaction of the connection."""

    def __init__(self, connection: Connection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def put(self, snapshots: Sequence[OrderSnapshot]) -> set[UUID]:
        columns = {
            "tenant_id": self._tenant_id,
            "order_ids": [snapshot.order_id for snapshot in snapshots],
            "quote_ids": [snapshot.quote_id for snapshot in snapshots],
            "customer_ids": [snapshot.customer_id for snapshot in snapshots],
            "states": [snapshot.state for snapshot in snapshots],
            "applied_seqs": [snapshot.applied_seq for snapshot in snapshots],
            "currencies": [snapshot.currency for snapshot in snapshots],
            "totals_one_time": [snapshot.total_one_time for snapshot in snapshots],
            "totals_recurring": [snapshot.total_recurring for snapshot in snapshots],
            "updated_ats": [snapshot.updated_at for snapshot in snapshots],
        }
        cursor = await self._connection.execute(_SQL["put_orders"], columns)
        return {row["order_id"] async for row in cursor}
