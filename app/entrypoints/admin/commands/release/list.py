"""Which releases there were."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20
) -> Outcome:
    """List the newest runs: release, who, what came of it, when, how long."""
    session: Session = context.obj
    return asyncio.run(_list(session, limit))


async def _list(session: Session, limit: int) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        runs = await journal.runs(limit) if await journal.exists() else []
    rows = [
        {
            "run": str(run["run_id"]),
            "release": run["release_id"],
            "state": run["state"],
            "operator": run["operator"],
            "started": run["started_at"].isoformat(timespec="seconds"),
            "seconds": None
            if run["finished_at"] is None
            else round((run["finished_at"] - run["started_at"]).total_seconds(), 1),
            "failure": run["failure"],
        }
        for run in runs
    ]
    return Outcome(data={"runs": rows}, table=rows)
