"""Every process version: deployed, routed, live, and how long it still drains."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.process_versions import status
from app.contracts.loader import load_processes
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    process: Annotated[str | None, typer.Option(help="Only this process version.")] = None,
) -> Outcome:
    """Show each version's deployments, routes and orders, beside what the engine's own records say of it."""
    session: Session = context.obj
    described = asyncio.run(_status(session))
    return Outcome(data={"processes": [each for each in described if process in {None, each["process_id"]}]})


async def _status(session: Session) -> list[dict[str, Any]]:
    engine = await asyncio.to_thread(session.engine_records().processes)
    async with session.database() as connection, connection.transaction():
        return await status(PostgresProcessStore(connection), load_processes(), engine)
