"""Routes of a test's own tenant, taken away at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.repair import RepairReason
from app.contracts.loader import business_process
from app.domain.process_route import ProcessRoute
from app.domain.values import TenantId
from app.runtime.clock import SystemClock
from app.runtime.ids import UuidV7Ids

REASON = RepairReason("tests", "a route of the tests")


@asynccontextmanager
async def route_to(connection: Connection, process_id: str, tenant_id: str, **conditions: Any) -> AsyncIterator[UUID]:
    """Send a tenant's orders to a process version for the time of the block; gives the route's id."""
    store = PostgresProcessStore(connection)
    route = ProcessRoute(
        route_id=UuidV7Ids().new(),
        business_process=business_process(process_id),
        process_id=process_id,
        priority=10,
        valid_from=SystemClock().now(),
        tenant_id=TenantId(tenant_id),
        **conditions,
    )
    await store.add_route(route, REASON)
    try:
        yield route.route_id
    finally:
        await store.remove_route(route.route_id, REASON)
