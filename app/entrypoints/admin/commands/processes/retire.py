"""Ends a process version that nothing can reach any more."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.process_versions import retire
from app.application.repair import RepairReason
from app.contracts.loader import load_processes
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    process_id: Annotated[str, typer.Argument(help="The process version, such as order-fulfillment-v1.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the audit.")],
) -> Outcome:
    """Retire a process version: no route may name it again, and workers that only it needs may go.

    Refused, with counts and ids, while a route points to it or an instance of it is pending or alive.
    """
    session: Session = context.obj
    return asyncio.run(_retire(session, process_id, RepairReason(session.operator, reason)))


async def _retire(session: Session, process_id: str, reason: RepairReason) -> Outcome:
    async with (
        session.database() as connection,
        session.audited(connection, "processes retire", reason.text) as detail,
    ):
        detail["process_id"] = process_id
        engine = await asyncio.to_thread(session.engine_records().processes)
        async with connection.transaction():
            await retire(PostgresProcessStore(connection), load_processes(), engine, process_id, reason)
    return applied([f"retire {process_id}"])
