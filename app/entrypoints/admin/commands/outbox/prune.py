"""Deletes published events that have served their time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from app.adapters.postgres.outbox_operations import OutboxOperations
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    older_than_days: Annotated[int, typer.Option(min=7, help="Days since an event was published.")],
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Rows looked at in one transaction.")] = 5000,
) -> Outcome:
    """Delete events published longer ago, keeping each aggregate's newest one. Unpublished events are never touched."""
    session: Session = context.obj
    return asyncio.run(_prune(session, timedelta(days=older_than_days), batch))


async def _prune(session: Session, older_than: timedelta, batch: int) -> Outcome:
    async with session.database() as connection, session.audited(connection, "outbox prune") as detail:
        deleted = await OutboxOperations(connection).prune(older_than, batch)
        detail["older_than_days"], detail["deleted"] = older_than.days, deleted
    return applied([f"delete {deleted} published events"] if deleted else [], {"deleted": deleted})
