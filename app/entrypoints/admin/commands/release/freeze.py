"""Declares that nothing is released."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.adapters.postgres.release_freezes import ReleaseFreezes
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    *,
    reason: Annotated[str, typer.Option(help="Why, and which ticket; every refused release says it.")],
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M"], help="When it ends by itself, in UTC; without it somebody has to end it."
        ),
    ] = None,
) -> Outcome:
    """Refuse every release and rollback from now on; one that is under way may be finished."""
    session: Session = context.obj
    ends = until.replace(tzinfo=UTC) if until else None
    why = RepairReason(session.operator, reason)
    return asyncio.run(_freeze(session, why, ends))


async def _freeze(session: Session, why: RepairReason, until: datetime | None) -> Outcome:
    async with session.audited_transaction("release freeze", why.text) as (connection, detail):
        freezes = ReleaseFreezes(connection)
        declared = await freezes.freeze(session.new_id(), why, until)
        detail["until"] = str(until) if until else None
    return Outcome(changes=[f"freeze releases: {declared.words}"], changed=True)
