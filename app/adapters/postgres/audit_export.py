"""The audit export's chains and segments in PostgreSQL; see `app.application.audit_export`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from app.adapters.postgres.consumer_errors import translated_errors
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.parked_events import set_tenant
from app.adapters.postgres.pool import Connection, Pool
from app.application.audit_export import GENESIS, Backlog, ExportRecord, Segment, segment_content

_SQL = NamedBlocks("audit_export")


class PostgresExportChain:
    """The chain of one tenant, in the transaction of the connection."""

    def __init__(self, connection: Connection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def head(self) -> tuple[int, str]:
        tenant = {"tenant_id": self._tenant_id, "genesis": GENESIS}
        await self._connection.execute(_SQL["begin_chain"], tenant)
        row = await (await self._connection.execute(_SQL["head"], tenant)).fetchone()
        if row is None:
            raise LookupError(f"the chain of tenant {self._tenant_id} is gone")
        return row["last_sequence"], row["last_hash"]

    async def append(self, records: Sequence[ExportRecord]) -> None:
        columns = {
            "tenant_id": self._tenant_id,
            "sequences": [record.sequence for record in records],
            "event_ids": [record.event_id for record in records],
            "bodies": [record.body for record in records],
            "hashes": [record.hash for record in records],
        }
        await self._connection.execute(_SQL["append"], columns)
        end = {"tenant_id": self._tenant_id, "sequence": records[-1].sequence, "hash": records[-1].hash}
        await self._connection.execute(_SQL["advance"], end)


class PostgresExportStore:
    """See `app.application.audit_export.ExportStore`.

    Args:
        pool: connections of the consumer's own role, open.
        instance_id: whose files the planned segments become.
    """

    def __init__(self, pool: Pool, instance_id: str) -> None:
        self._pool = pool
        self._instance_id = instance_id

    async def backlog(self) -> list[Backlog]:
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["backlog"])
                return [Backlog(**row) async for row in cursor]

    async def plan(self, tenant_id: str, limit: int) -> None:
        with translated_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await set_tenant(connection, tenant_id)
                row = await (await connection.execute(_SQL["last_segment"], {"tenant_id": tenant_id})).fetchone()
                first = (row["last_sequence"] if row else 0) + 1
                records = await _records(connection, tenant_id, first, first + limit - 1)
                if not records:
                    return
                values = {
                    "tenant_id": tenant_id,
                    "first": first,
                    "last": records[-1].sequence,
                    "content_sha256": hashlib.sha256(segment_content(records)).hexdigest(),
                    "instance_id": self._instance_id,
                }
                await connection.execute(_SQL["plan"], values)

    async def segments(self) -> list[Segment]:
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["segments_of"], {"instance_id": self._instance_id})
                return [Segment(**row) async for row in cursor]

    async def content(self, segment: Segment) -> bytes:
        with translated_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await set_tenant(connection, segment.tenant_id)
                records = await _records(connection, segment.tenant_id, segment.first_sequence, segment.last_sequence)
        return segment_content(records)

    async def mark_written(self, segment: Segment) -> None:
        with translated_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await set_tenant(connection, segment.tenant_id)
                place = {"tenant_id": segment.tenant_id, "first": segment.first_sequence}
                await connection.execute(_SQL["mark_written"], place)


async def exported_segments(connection: Connection, instance_id: str | None) -> list[Mapping[str, Any]]:
    """Every segment that should be in a file, of one instance or of all; for operators."""
    cursor = await connection.execute(_SQL["all_segments"], {"instance_id": instance_id})
    return [dict(row) async for row in cursor]


async def _records(connection: Connection, tenant_id: str, first: int, last: int) -> list[ExportRecord]:
    cursor = await connection.execute(_SQL["records"], {"tenant_id": tenant_id, "first": first, "last": last})
    return [ExportRecord(**row) async for row in cursor]
