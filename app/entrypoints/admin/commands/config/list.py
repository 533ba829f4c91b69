"""What may be changed while units run, what is, and by whom."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.configuration_store import PostgresConfigurationStore
from app.application.configuration import changeable
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(context: typer.Context) -> Outcome:
    """Show the settings that may change at run time, those that operators have set, and the latest changes."""
    session: Session = context.obj
    return asyncio.run(_list(session))


async def _list(session: Session) -> Outcome:
    async with session.database() as connection:
        overview = await PostgresConfigurationStore(connection, UuidV7Ids()).overview()
    return Outcome(data={"changeable": changeable(), **overview})
