"""What the journal says of the newest release."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from app.adapters.postgres.release_freezes import ReleaseFreezes
from app.adapters.postgres.release_journal import ReleaseJournal
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Show the newest release run: its state, holder, paused timers, failure, and each step with its times; and the freeze in force."""
    session: Session = context.obj
    return asyncio.run(_status(session))


async def _status(session: Session) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        latest = await journal.latest() if await journal.exists() else None
        freeze = await ReleaseFreezes(connection).in_force()
        frozen = freeze.words if freeze else None
        if latest is None:
            return Outcome(data={"run": None, "freeze": frozen})
        steps = await journal.steps(latest.run_id)
    shown = [
        {key: value for key, value in step.items() if step["step"] != "baseline" or key != "evidence"} for step in steps
    ]
    return Outcome(data={"run": asdict(latest), "steps": shown, "freeze": frozen})
