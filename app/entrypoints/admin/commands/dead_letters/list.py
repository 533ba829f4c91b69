"""What consumer groups gave up on."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.dead_letter_desk import PostgresDeadLetterDesk
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(help="Of this consumer group only.")] = None,
    state: Annotated[str | None, typer.Option(help="open, replaying, replayed or discarded; any without it.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 50,
) -> Outcome:
    """List dead letters: where each event was read, what was wrong, and what became of it."""
    session: Session = context.obj
    return asyncio.run(_list(session, group, None if state == "any" else state, limit))


async def _list(session: Session, group: str | None, state: str | None, limit: int) -> Outcome:
    async with session.database() as connection:
        letters = await PostgresDeadLetterDesk(connection, UuidV7Ids()).listed(group, state, limit)
    return Outcome(data={"dead_letters": letters})
