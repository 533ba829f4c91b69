"""Takes a route away."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.process_versions import remove_route
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    route_id: Annotated[UUID, typer.Argument(help="The route, as `processes route list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the audit and with the route.")],
) -> Outcome:
    """Remove a route: new orders go to the next one that takes them. The last one that takes every case stays."""
    session: Session = context.obj
    return asyncio.run(_remove(session, route_id, RepairReason(session.operator, reason)))


async def _remove(session: Session, route_id: UUID, reason: RepairReason) -> Outcome:
    async with session.audited_transaction("processes route remove", reason.text) as (connection, detail):
        route = await remove_route(PostgresProcessStore(connection), route_id, reason)
        detail["removed"] = {"route_id": str(route_id), "process_id": route.process_id, "for": route.description}
    return applied([f"remove route {route_id} to {route.process_id} for {route.description}"])
