"""Lets the starter try again to start an order's process."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.repairs import PostgresRepairStore
from app.application.repair import RepairReason, retry_start
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(
    context: typer.Context,
    order_id: Annotated[UUID, typer.Argument(help="The order whose process waits or could not be started.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
) -> Outcome:
    """Make an order's workflow reference due now; refused once its process was started."""
    session: Session = context.obj
    return asyncio.run(_retry(session, order_id, RepairReason(session.operator, reason)))


async def _retry(session: Session, order_id: UUID, reason: RepairReason) -> Outcome:
    async with (
        session.database() as connection,
        session.audited(connection, "repair workflow retry", reason.text) as detail,
        connection.transaction(),
    ):
        repaired = await retry_start(PostgresRepairStore(connection, UuidV7Ids()), order_id, reason)
        detail["order_id"], detail["tenant_id"] = repaired.target_id, repaired.tenant_id
    return applied([f"retry the start of order {order_id} of {repaired.tenant_id}"])
