"""The timers of a release run again."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context, holder: Annotated[str, typer.Option(help="Who holds the release, as given to begin.")]
) -> Outcome:
    """Strike the timers off the release under way, after release.yml has started them."""
    session: Session = context.obj
    return asyncio.run(_resume(session, holder))


async def _resume(session: Session, holder: str) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        latest = await journal.latest()
        await journal.set_paused_timers(await journal.held_by(holder), [])
    return Outcome(data={"resumed": list(latest.paused_timers) if latest else []})
