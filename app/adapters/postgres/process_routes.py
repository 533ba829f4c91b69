"""Routes to process versions in PostgreSQL, as a tenant's transaction sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.domain.order import OrderType
from app.domain.process_route import ProcessRoute
from app.domain.values import TenantId

_SQL = NamedBlocks("process_routes")


class PostgresProcessRouteRepository:
    """See `app.application.ports.ProcessRouteRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def current(self, business_process: str) -> list[ProcessRoute]:
        cursor = await self._connection.execute(_SQL["current"], {"business_process": business_process})
        return [as_route(row) for row in await cursor.fetchall()]


def as_route(row: Mapping[str, Any]) -> ProcessRoute:
    """A row of cpq.process_route as a value."""
    return ProcessRoute(
        route_id=row["route_id"],
        business_process=row["business_process"],
        process_id=row["process_id"],
        priority=row["priority"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        tenant_id=None if row["tenant_id"] is None else TenantId(row["tenant_id"]),
        order_type=None if row["order_type"] is None else OrderType(row["order_type"]),
        product_line=row["product_line"],
        catalog_from=row["catalog_from"],
        catalog_to=row["catalog_to"],
        flag=row["flag"],
    )
