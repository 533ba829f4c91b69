"""Repairs in PostgreSQL."""

from __future__ import annotations

from uuid import UUID

from psycopg.types.json import Jsonb

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.repair import Repaired, RepairReason
from app.runtime.ids import Ids

_SQL = NamedBlocks("repairs")


class PostgresRepairStore:
    """See `app.application.repair.RepairStore`."""

    def __init__(self, connection: Connection, ids: Ids) -> None:
        self._connection = connection
        self._ids = ids

    async def requeue_event(self, event_id: UUID) -> Repaired | None:
        row = await (await self._connection.execute(_SQL["requeue_event"], {"event_id": event_id})).fetchone()
        if row is None:
            return None
        tenant = row.pop("tenant_id")
        return Repaired(tenant, "outbox_event", str(event_id), row, {"state": "pending", "attempts": 0})

    async def discard_event(self, event_id: UUID) -> Repaired | None:
        row = await (await self._connection.execute(_SQL["discard_event"], {"event_id": event_id})).fetchone()
        if row is None:
            return None
        tenant = row.pop("tenant_id")
        return Repaired(tenant, "outbox_event", str(event_id), row, {"state": "discarded"})

    async def retry_start(self, order_id: UUID) -> Repaired | None:
        row = await (await self._connection.execute(_SQL["retry_start"], {"order_id": order_id})).fetchone()
        if row is None:
            return None
        tenant = row.pop("tenant_id")
        return Repaired(tenant, "workflow_reference", str(order_id), row, {"state": "pending"})

    async def retry_reaction(self, reaction_id: UUID) -> Repaired | None:
        row = await (await self._connection.execute(_SQL["retry_reaction"], {"reaction_id": reaction_id})).fetchone()
        if row is None:
            return None
        tenant = row.pop("tenant_id")
        return Repaired(tenant, "reaction", str(reaction_id), row, {"state": "pending", "runs": 0})

    async def close_reaction(self, reaction_id: UUID) -> Repaired | None:
        row = await (await self._connection.execute(_SQL["close_reaction"], {"reaction_id": reaction_id})).fetchone()
        if row is None:
            return None
        tenant = row.pop("tenant_id")
        return Repaired(tenant, "reaction", str(reaction_id), row, {"state": "failed", "case": "resolved"})

    async def audit(self, action: str, repaired: Repaired, reason: RepairReason) -> None:
        values = {
            "audit_id": self._ids.new(),
            "tenant_id": repaired.tenant_id,
            "actor": f"operator:{reason.operator}",
            "action": action,
            "target_type": repaired.target_type,
            "target_id": repaired.target_id,
            "reason": reason.text,
            "before": Jsonb(repaired.before),
            "after": Jsonb(repaired.after),
        }
        await self._connection.execute(_SQL["audit"], values)
