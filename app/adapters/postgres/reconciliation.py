"""Finds what disagrees between orders, processes, events and read models; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection

_SQL = NamedBlocks("reconciliation")
_LIMIT = 1000


@dataclass(frozen=True)
class Finding:
    """One thing that needs a look: what kind, whose, which, since when, and what is wrong with it."""

    kind: str
    tenant_id: str
    id: str
    since: datetime
    detail: str


async def findings(connection: Connection, older_than: timedelta) -> list[Finding]:
    """Everything that stands still for longer than `older_than` or contradicts itself, oldest first, at most 1000."""
    cursor = await connection.execute(_SQL["findings"], {"older_than": older_than, "limit": _LIMIT})
    return [Finding(**row) for row in await cursor.fetchall()]
