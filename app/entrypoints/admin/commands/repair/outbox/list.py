"""Which events are parked, and why."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from app.adapters.postgres.outbox_operations import OutboxOperations
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most events to show, the oldest first.")] = 100,
) -> Outcome:
    """List parked events with their errors and how many events wait behind each; `requeue` gives one to the relay again."""
    session: Session = context.obj
    return asyncio.run(_list(session, tenant, limit))


async def _list(session: Session, tenant: str | None, limit: int) -> Outcome:
    async with session.database() as connection:
        found = await OutboxOperations(connection).parked(tenant, limit)
    return Outcome(data={"parked": [asdict(event) for event in found]})
