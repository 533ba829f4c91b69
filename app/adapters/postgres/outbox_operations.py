"""The outbox as operators see it: what is parked and why, and the published rows that have served their time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection

_SQL = NamedBlocks("outbox_operations")
_BEFORE_ALL = (UUID(int=0), 0)


@dataclass(frozen=True)
class ParkedEvent:
    """An event that cannot be published as it is, and how many events of its aggregate wait behind it."""

    event_id: UUID
    tenant_id: str
    aggregate_type: str
    aggregate_id: UUID
    aggregate_seq: int
    event_type: str
    topic: str
    attempts: int
    last_error: str
    occurred_at: datetime
    waiting_behind: int


class OutboxOperations:
    """On a connection of the operators' role, which sees all tenants."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def parked(self, tenant_id: str | None, limit: int) -> list[ParkedEvent]:
        """Return parked events, the oldest first, of one tenant or of all."""
        cursor = await self._connection.execute(_SQL["parked"], {"tenant_id": tenant_id, "limit": limit})
        return [ParkedEvent(**row) async for row in cursor]

    async def prune(self, older_than: timedelta, batch: int) -> int:
        """Delete what was published longer ago, keeping each aggregate's newest published row; return how many.

        The relay asks the newest row whether the next event's predecessor is published. Each batch looks at so many rows
        and is a transaction of its own: a run that is cut short has deleted less, never wrongly.
        """
        deleted, after = 0, _BEFORE_ALL
        while True:
            looked = {"older_than": older_than, "batch": batch, "aggregate_id": after[0], "aggregate_seq": after[1]}
            row = await (await self._connection.execute(_SQL["prune"], looked)).fetchone()
            if row is None:
                return deleted
            deleted += row["deleted"]
            after = (row["aggregate_id"], row["aggregate_seq"])
