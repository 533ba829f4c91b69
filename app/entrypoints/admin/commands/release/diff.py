"""What hosts run since one release, and did not before it."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.application.release_record import differences, states
from app.entrypoints.admin.outcome import Outcome, failed, planned
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    earlier: Annotated[UUID, typer.Argument(help="A run, as release list names it.")],
    later: Annotated[UUID, typer.Argument(help="Another one.")],
) -> Outcome:
    """Say which hosts ran what when each of two runs had ended; exit 3 when they differ."""
    session: Session = context.obj
    return asyncio.run(_diff(session, earlier, later))


async def _diff(session: Session, earlier: UUID, later: UUID) -> Outcome:
    async with session.database() as connection:
        entries = await ReleaseJournal(connection).record()
    known = {entry.content["runId"] for entry in entries}
    unknown = [
        f"nothing is on record of run {run}: see cpq-oms-admin release list"
        for run in (earlier, later)
        if str(run) not in known
    ]
    if unknown:
        return failed(unknown)
    return planned(differences(states(entries, earlier), states(entries, later)))
