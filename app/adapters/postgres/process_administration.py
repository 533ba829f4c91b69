"""Routes, retirements and live references as operators see them: all tenants, in one transaction of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.postgres.process_routes import as_route
from app.application.process_versions import LiveReferences, LiveWorker, ProcessDeployment, StoredRoute
from app.application.repair import RepairReason
from app.domain.process_route import ProcessRoute

_SQL = NamedBlocks("process_administration")


class PostgresProcessStore:
    """See `app.application.process_versions.ProcessStore`; the transaction is the caller's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._deployments = ProcessDeployments(connection)

    async def is_there(self) -> bool:
        """Tell whether the schema has routes yet: a release asks before it migrates."""
        return await has_table(self._connection, "process_route")

    async def hold(self) -> None:
        await self._connection.execute(_SQL["hold"])

    async def deployments(self) -> list[ProcessDeployment]:
        return await self._deployments.all()

    async def live_workers(self) -> list[LiveWorker]:
        return await self._deployments.live_workers()

    async def retired(self) -> Mapping[str, datetime]:
        cursor = await self._connection.execute(_SQL["retired"])
        return {row["process_id"]: row["retired_at"] for row in await cursor.fetchall()}

    async def routes(self, removed_since: timedelta | None = None) -> list[StoredRoute]:
        cursor = await self._connection.execute(_SQL["routes"], {"removed_since": removed_since or timedelta()})
        return [
            StoredRoute(as_route(row), row["reason"], row["created_by"], row["removed_at"])
            for row in await cursor.fetchall()
        ]

    async def live_references(self) -> Mapping[str, LiveReferences]:
        cursor = await self._connection.execute(_SQL["live_references"])
        return {row.pop("process_id"): LiveReferences(**row) for row in await cursor.fetchall()}

    async def instance_keys(self, process_id: str) -> Mapping[int, datetime]:
        cursor = await self._connection.execute(_SQL["instance_keys"], {"process_id": process_id})
        return {row["process_instance_key"]: row["requested_at"] for row in await cursor.fetchall()}

    async def has_tenant(self, tenant_id: str) -> bool:
        row = await (await self._connection.execute(_SQL["has_tenant"], {"tenant_id": tenant_id})).fetchone()
        return bool(row and row["there"])

    async def add_route(self, route: ProcessRoute, reason: RepairReason) -> None:
        values = {**asdict(route), "reason": reason.text, "created_by": reason.operator}
        await self._connection.execute(_SQL["add_route"], values)

    async def remove_route(self, route_id: UUID, reason: RepairReason) -> None:
        values = {"route_id": route_id, "removed_by": reason.operator, "reason": reason.text}
        await self._connection.execute(_SQL["remove_route"], values)

    async def retire(self, process_id: str, reason: RepairReason) -> None:
        values = {"process_id": process_id, "reason": reason.text, "retired_by": reason.operator}
        await self._connection.execute(_SQL["retire"], values)
