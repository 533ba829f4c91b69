from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from app.adapters.postgres.catalog_seed import seed
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_administration import PostgresProcessStore
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.application.repair import RepairReason
from app.domain.process_route import ProcessRoute
from app.domain.values import OrderId, TenantId
from app.runtime.ids import UuidV7Ids
from tests.integration.conftest import OpenPool
from tests.support.builders import fiber, legacy, published
from tests.support.port_suite import Harness, PortSuite


class PostgresHarness(Harness):
    """Commands run as cpq_api; what was committed is looked at from outside, as cpq_admin."""

    def __init__(self, open_unit_of_work: Any, tenants: list[str], admin: Connection) -> None:
        super().__init__(open_unit_of_work, UuidV7Ids(), tenants)
        self.admin = admin

    async def outbox(self, tenant_id: TenantId) -> list[tuple[int, str]]:
        cursor = await self.admin.execute(
            "SELECT aggregate_seq, event_type FROM cpq.outbox_event WHERE tenant_id = %s ORDER BY event_id", [tenant_id]
        )
        return [(row["aggregate_seq"], row["event_type"]) for row in await cursor.fetchall()]

    async def audit(self, tenant_id: TenantId) -> list[str]:
        cursor = await self.admin.execute(
            "SELECT action FROM cpq.audit_entry WHERE tenant_id = %s ORDER BY audit_id", [tenant_id]
        )
        return [row["action"] for row in await cursor.fetchall()]

    async def steps(self, order_id: OrderId) -> set[str]:
        cursor = await self.admin.execute("SELECT step FROM cpq.fulfillment_task WHERE order_id = %s", [order_id])
        return {row["step"] for row in await cursor.fetchall()}

    async def message_id(self, order_id: OrderId) -> str:
        cursor = await self.admin.execute(
            "SELECT message_id FROM cpq.workflow_reference WHERE order_id = %s", [order_id]
        )
        return str(next(row["message_id"] for row in await cursor.fetchall()))

    async def choice(self, order_id: OrderId) -> tuple[str, int, UUID | None, str | None]:
        cursor = await self.admin.execute(
            "SELECT process_id, variables_schema_version, route_id, route_reason FROM cpq.workflow_reference "
            "WHERE order_id = %s",
            [order_id],
        )
        [row] = await cursor.fetchall()
        return row["process_id"], row["variables_schema_version"], row["route_id"], row["route_reason"]

    async def add_route(self, route: ProcessRoute) -> None:
        await PostgresProcessStore(self.admin).add_route(route, RepairReason("tests", "a route of the tests"))


class TestPostgresStore(PortSuite):
    @pytest.fixture
    async def harness(self, open_pool: OpenPool, admin_connection: Connection, tenant_id: str) -> Harness:
        tenants = [tenant_id, f"{tenant_id}-b", f"{tenant_id}-c"]
        await seed(admin_connection, [published(name, [fiber(), legacy()]) for name in tenants[:2]], "tests")
        pool = await open_pool("api")
        return PostgresHarness(unit_of_work_factory(pool), tenants, admin_connection)
