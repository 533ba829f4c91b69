"""One dead letter with everything that is known of it."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.dead_letter_desk import PostgresDeadLetterDesk
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(
    context: typer.Context, dead_letter_id: Annotated[UUID, typer.Argument(help="The dead letter.")]
) -> Outcome:
    """Show a dead letter, its event as long as that is parked, and how many events wait behind it."""
    session: Session = context.obj
    return asyncio.run(_show(session, dead_letter_id))


async def _show(session: Session, dead_letter_id: UUID) -> Outcome:
    # What is shown may hold a tenant's data: who looked is written down.
    async with session.database() as connection, session.audited(connection, "dead-letters show") as detail:
        detail["dead_letter_id"] = str(dead_letter_id)
        letter = await PostgresDeadLetterDesk(connection, UuidV7Ids()).shown(dead_letter_id)
    return failed([f"no dead letter {dead_letter_id}"]) if letter is None else Outcome(data=letter)
