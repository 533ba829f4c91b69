"""The expand job: the one way the schema grows."""

from __future__ import annotations

import asyncio

import typer

from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Apply pending expand migrations, each with its verify script and its ledger entry in one transaction.

    Never runs a backfill or contract file. A lock row left by a killed run is removed; a run under way is left alone.
    """
    session: Session = context.obj
    return asyncio.run(_expand(session))


async def _expand(session: Session) -> Outcome:
    async with session.owner_database() as connection, session.audited(connection, "migrate expand") as detail:
        done = await asyncio.to_thread(session.migrator().expand, session.release.release_id)
        detail["migrations"] = list(done.migrations)
        detail["broke_stale_lock"] = done.broke_stale_lock
        return applied([f"apply {name}" for name in done.migrations], {"broke_stale_lock": done.broke_stale_lock})
