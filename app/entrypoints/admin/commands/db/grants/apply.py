"""Brings database privileges to exactly what the contract declares."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.grants import apply_grants
from app.contracts.loader import load_database_grants
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Give missing privileges and take undeclared ones, all or nothing."""
    session: Session = context.obj
    return asyncio.run(_apply(session))


async def _apply(session: Session) -> Outcome:
    async with session.owner_database() as connection, session.audited(connection, "db grants apply") as detail:
        changes = (await apply_grants(connection, load_database_grants())).changes
        detail["changes"] = changes
        return applied(changes)
