"""Where database privileges differ from the contract."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.grants import plan_grants
from app.contracts.loader import load_database_grants
from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List missing and undeclared privileges; exit 3 when there are any."""
    session: Session = context.obj
    return asyncio.run(_plan(session))


async def _plan(session: Session) -> Outcome:
    async with session.owner_database() as connection:
        return planned((await plan_grants(connection, load_database_grants())).changes)
