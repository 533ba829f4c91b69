"""Append-only audit entries in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.ports import AuditEntry

_SQL = NamedBlocks("audit")


class PostgresAuditTrail:
    """See `app.application.ports.AuditTrail`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def append(self, entry: AuditEntry) -> None:
        await self._connection.execute(
            _SQL["append"],
            {
                "audit_id": entry.audit_id,
                "tenant_id": entry.actor.tenant_id,
                "actor": entry.actor.principal,
                "action": entry.action,
                "target_type": entry.target_type,
                "target_id": entry.target_id,
                "reason": entry.reason,
                "before": _json(entry.before),
                "after": _json(entry.after),
                "request_id": entry.actor.request_id,
                "traceparent": entry.actor.traceparent,
                "occurred_at": entry.occurred_at,
            },
        )


def _json(document: Mapping[str, Any] | None) -> Jsonb | None:
    return None if document is None else Jsonb(dict(document))
