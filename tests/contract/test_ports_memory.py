from __future__ import annotations

from uuid import UUID

import pytest

from app.adapters.memory.unit_of_work import MemoryStore
from app.domain.process_route import ProcessRoute
from app.domain.values import OrderId, TenantId
from tests.support.builders import CountingIds, SetClock, fiber, legacy
from tests.support.port_suite import Harness, PortSuite


class MemoryHarness(Harness):
    def __init__(self) -> None:
        self.store = MemoryStore(SetClock())
        tenants = ("acme", "globex", "initech")
        super().__init__(self.store.unit_of_work, CountingIds(), tenants)
        for tenant in tenants[:2]:
            self.store.publish(TenantId(tenant), 1, [fiber(), legacy()])

    async def outbox(self, tenant_id: TenantId) -> list[tuple[int, str]]:
        return [(each.aggregate_seq, each.event_type) for each in self.store.rows.outbox if each.tenant_id == tenant_id]

    async def audit(self, tenant_id: TenantId) -> list[str]:
        return [each.action for each in self.store.rows.audit if each.actor.tenant_id == tenant_id]

    async def steps(self, order_id: OrderId) -> set[str]:
        return {step for (owner, step) in self.store.rows.fulfillment.tasks if owner == order_id}

    async def message_id(self, order_id: OrderId) -> str:
        return self.store.rows.workflow_references.references[order_id].message_id

    async def choice(self, order_id: OrderId) -> tuple[str, int, UUID | None, str | None]:
        request = self.store.rows.workflow_references.requests[order_id]
        return request.process_id, request.variables_schema_version, request.route_id, request.route_reason

    async def add_route(self, route: ProcessRoute) -> None:
        self.store.rows.process_routes.append(route)


class TestMemoryStore(PortSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return MemoryHarness()
