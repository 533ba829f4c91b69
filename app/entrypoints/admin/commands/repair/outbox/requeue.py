"""Gives a parked event to the relay again."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.repairs import PostgresRepairStore
from app.application.repair import RepairReason, requeue_event
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(
    context: typer.Context,
    event_id: Annotated[UUID, typer.Argument(help="The parked event.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
) -> Outcome:
    """Make a parked event pending again; the events of its order that wait behind it follow."""
    session: Session = context.obj
    return asyncio.run(_requeue(session, event_id, RepairReason(session.operator, reason)))


async def _requeue(session: Session, event_id: UUID, reason: RepairReason) -> Outcome:
    async with (
        session.database() as connection,
        session.audited(connection, "repair outbox requeue", reason.text) as detail,
        connection.transaction(),
    ):
        repaired = await requeue_event(PostgresRepairStore(connection, UuidV7Ids()), event_id, reason)
        detail["event_id"], detail["tenant_id"] = repaired.target_id, repaired.tenant_id
    return applied([f"requeue event {event_id} of {repaired.tenant_id}"])
