"""The end of a release."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.entrypoints.admin import recording
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    holder: Annotated[str, typer.Option(help="Who holds the release, as given to begin.")],
    failure: Annotated[str | None, typer.Option(help="Why it failed; without it the release succeeded.")] = None,
) -> Outcome:
    """Close the release under way. One whose timers are still paused cannot have succeeded."""
    session: Session = context.obj
    return asyncio.run(_finish(session, holder, failure))


async def _finish(session: Session, holder: str, failure: str | None) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        if not await journal.exists():
            return Outcome(data={"recorded": False})
        run_id = await journal.held_by(holder)
        latest = await journal.latest()
        if failure is None and latest is not None and latest.paused_timers:
            return failed(
                [f"timers are still paused: {', '.join(latest.paused_timers)}; start them, then release resume"]
            )
        state: Literal["failed", "succeeded"] = "failed" if failure else "succeeded"
        entries = recording.told(await journal.finish(run_id, state, failure))
    return Outcome(data={"recorded": True, "run_id": str(run_id), "state": state, "entries": entries})
