"""Durable idempotency records in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

from psycopg.types.json import Jsonb

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.ports import ConcurrentChange, StoredResponse
from app.domain.values import TenantId

_SQL = NamedBlocks("idempotency")


class PostgresIdempotencyRepository:
    """See `app.application.ports.IdempotencyRepository`.

    The claim is an advisory lock, so a concurrent request of the same key is answered at once instead of waiting. The
    record's primary key stays the wall behind it.
    """

    def __init__(self, connection: Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def claim(self, principal: str, key: str) -> bool:
        cursor = await self._connection.execute(
            _SQL["claim"], {"tenant_id": self._tenant_id, "principal": principal, "key": key}
        )
        row = await cursor.fetchone()
        return row is not None and bool(row["claimed"])

    async def find(self, principal: str, key: str, now: datetime) -> StoredResponse | None:
        # A statement of its own, after the claim: its snapshot then includes what the claim's last holder committed.
        cursor = await self._connection.execute(
            _SQL["find"], {"tenant_id": self._tenant_id, "principal": principal, "key": key, "now": now}
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        return StoredResponse(
            request_sha256=row["request_sha256"],
            status_code=row["status_code"],
            headers=row["response_headers"],
            body=row["response_body"],
        )

    async def store(
        self, principal: str, key: str, response: StoredResponse, *, now: datetime, expires_at: datetime
    ) -> None:
        cursor = await self._connection.execute(
            _SQL["store"],
            {
                "tenant_id": self._tenant_id,
                "principal": principal,
                "key": key,
                "request_sha256": response.request_sha256,
                "status_code": response.status_code,
                "headers": Jsonb(dict(response.headers)),
                "body": response.body,
                "now": now,
                "expires_at": expires_at,
            },
        )
        if cursor.rowcount != 1:
            raise ConcurrentChange("idempotency record")
