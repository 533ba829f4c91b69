"""What is measured before the smoke test, for the post-checks to compare with."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.entrypoints.admin import measuring
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context, holder: Annotated[str, typer.Option(help="Who holds the release, as given to begin.")]
) -> Outcome:
    """Look at every unit once and keep it in the journal of the release under way."""
    session: Session = context.obj
    return asyncio.run(_baseline(session, holder))


async def _baseline(session: Session, holder: str) -> Outcome:
    before = await measuring.baseline(session, session.given(measuring.Surroundings))
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        await journal.step(await journal.held_by(holder), "baseline", "succeeded", measuring.storable(before))
    return Outcome(data={"at": before.at.isoformat()})
