"""What the reconciliation group found: events and orders that disagree."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.event_reconciliation import open_findings
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 100,
) -> Outcome:
    """List open findings by kind, and how many there are of each."""
    session: Session = context.obj
    return asyncio.run(_findings(session, tenant, limit))


async def _findings(session: Session, tenant: str | None, limit: int) -> Outcome:
    async with session.database() as connection:
        counts, newest = await open_findings(connection, tenant, limit)
    return Outcome(data={"counts": counts, "findings": newest})
