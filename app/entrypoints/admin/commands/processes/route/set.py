"""Sends the cases that a route describes to a process version."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.process_versions import set_route
from app.application.repair import RepairReason
from app.contracts.loader import business_process, load_processes
from app.domain.order import OrderType
from app.domain.process_route import ProcessRoute
from app.domain.values import TenantId
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.clock import SystemClock


def command(
    context: typer.Context,
    process_id: Annotated[str, typer.Argument(help="The process version, such as order-fulfillment-v2.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the audit and with the route.")],
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's cases.")] = None,
    order_type: Annotated[OrderType | None, typer.Option(help="Only orders that do this.")] = None,
    product_line: Annotated[str | None, typer.Option(help="Only cases with this product line.")] = None,
    catalog_from: Annotated[int | None, typer.Option(min=1, help="From this catalog version on.")] = None,
    catalog_to: Annotated[int | None, typer.Option(min=1, help="Up to this catalog version.")] = None,
    flag: Annotated[str | None, typer.Option(help="Only where this release flag is on for the tenant.")] = None,
    priority: Annotated[int, typer.Option(min=0, max=1000, help="The highest that takes a case wins.")] = 0,
    until: Annotated[datetime | None, typer.Option(help="When the route ends by itself, in UTC.")] = None,
) -> Outcome:
    """Route new cases to a process version; a route of the same priority for the very same cases is replaced.

    Refused, by name, unless the process is deployed, not retired, and each of its job types is served by live workers
    that understand its variables.
    """
    session: Session = context.obj
    if catalog_from is not None and catalog_to is not None and catalog_to < catalog_from:
        raise typer.BadParameter(f"--catalog-to {catalog_to} is before --catalog-from {catalog_from}")
    now = SystemClock().now()
    ends = None if until is None else until.replace(tzinfo=until.tzinfo or UTC)
    if ends is not None and ends <= now:
        raise typer.BadParameter(f"--until {ends.isoformat()} is over")
    route = ProcessRoute(
        route_id=session.new_id(),
        business_process=business_process(process_id),
        process_id=process_id,
        priority=priority,
        valid_from=now,
        valid_to=ends,
        tenant_id=None if tenant is None else TenantId(tenant),
        order_type=order_type,
        product_line=product_line,
        catalog_from=catalog_from,
        catalog_to=catalog_to,
        flag=flag,
    )
    return asyncio.run(_set(session, route, RepairReason(session.operator, reason)))


async def _set(session: Session, route: ProcessRoute, reason: RepairReason) -> Outcome:
    async with session.audited_transaction("processes route set", reason.text) as (connection, detail):
        replaced, now_there = await set_route(PostgresProcessStore(connection), load_processes(), route, reason)
        data = {"route_id": str(now_there.route_id), "process_id": route.process_id, "for": route.description}
        detail["route"] = data
        if replaced is not None:
            detail["replaced"] = {"route_id": str(replaced.route_id), "process_id": replaced.process_id}
    if now_there is not route:
        return applied([], data)
    return applied([f"route {route.description} to {route.process_id}, priority {route.priority}"], data)
