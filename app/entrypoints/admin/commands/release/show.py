"""What one release did."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.release_journal import ReleaseJournal
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    run: Annotated[UUID | None, typer.Argument(help="As release list names it; the newest one when left out.")] = None,
) -> Outcome:
    """Show what a run put on record: each step with host, release before and after, who, when, and the hash of its evidence."""
    session: Session = context.obj
    return asyncio.run(_show(session, run))


async def _show(session: Session, run_id: UUID | None) -> Outcome:
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        latest = await journal.latest() if await journal.exists() else None
        entries = await journal.record()
        wanted = run_id or (latest.run_id if latest else None)
        steps = await journal.steps(wanted) if latest is not None and wanted is not None else []
    found = [entry.content for entry in entries if entry.content["runId"] == str(wanted)]
    if not found:
        return failed([f"nothing is on record of run {wanted or '(none)'}: see cpq-oms-admin release list"])
    rows = [
        {
            "entry": content["sequence"],
            "at": content["recordedAt"],
            "step": content["step"],
            "state": content["state"],
            "host": content["host"],
            "before": content["before"],
            "after": content["after"],
            "operator": content["operator"],
            "detail": content["detail"],
            "evidence": (content["evidenceHash"] or "")[:12],
        }
        for content in found
    ]
    data = {
        "run": str(wanted),
        "release": found[0]["releaseId"],
        "entries": found,
        "evidence": {step["step"]: step["evidence"] for step in steps if step["evidence"] is not None},
    }
    return Outcome(data=data, table=rows)
