"""Which timers a release pauses: written down before the first of them is stopped."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    timers: Annotated[list[str], typer.Argument(help="host/timer, each one that is about to be stopped.")],
    holder: Annotated[str, typer.Option(help="Who holds the release, as given to begin.")],
) -> Outcome:
    """Add timers to those the release under way answers for. Stops nothing: release.yml does, after this."""
    session: Session = context.obj
    return asyncio.run(_pause(session, timers, holder))


async def _pause(session: Session, timers: list[str], holder: str) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        run_id = await journal.held_by(holder)
        latest = await journal.latest()
        paused = sorted({*timers, *(latest.paused_timers if latest else ())})
        await journal.set_paused_timers(run_id, paused)
    return Outcome(data={"paused_timers": paused})
