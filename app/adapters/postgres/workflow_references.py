"""Workflow references in PostgreSQL: the wish for a process instance and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.ports import ClaimedStart
from app.domain.fulfillment import WorkflowReference, WorkflowRequest, WorkflowState
from app.domain.values import OrderId

_SQL = NamedBlocks("workflow_references")


class PostgresWorkflowReferenceRepository:
    """See `app.application.ports.WorkflowReferenceRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def request(self, request: WorkflowRequest) -> None:
        await self._connection.execute(_SQL["request"], {**asdict(request), "message_id": request.message_id})

    async def claim(self, order_id: OrderId, lease: timedelta) -> ClaimedStart | None:
        cursor = await self._connection.execute(_SQL["claim"], {"order_id": order_id, "lease": lease})
        row = await cursor.fetchone()
        return None if row is None else ClaimedStart(_reference(row), row["is_process_deployed"])

    async def postpone(self, order_id: OrderId, delay: timedelta, error: str) -> None:
        await self._connection.execute(_SQL["postpone"], {"order_id": order_id, "delay": delay, "error": error})

    async def get(self, order_id: OrderId) -> WorkflowReference | None:
        cursor = await self._connection.execute(_SQL["get"], {"order_id": order_id})
        row = await cursor.fetchone()
        return None if row is None else _reference(row)

    async def save(self, reference: WorkflowReference) -> None:
        await self._connection.execute(_SQL["save"], asdict(reference))


def _reference(row: Mapping[str, Any]) -> WorkflowReference:
    return WorkflowReference(
        order_id=row["order_id"],
        tenant_id=row["tenant_id"],
        process_id=row["process_id"],
        variables_schema_version=row["variables_schema_version"],
        message_id=row["message_id"],
        state=WorkflowState(row["state"]),
        start_attempts=row["start_attempts"],
        process_instance_key=row["process_instance_key"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        traceparent=row["traceparent"],
    )
