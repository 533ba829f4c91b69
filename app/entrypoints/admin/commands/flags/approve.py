"""Approves another operator's change of a flag."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.feature_flags import PostgresFlagStore
from app.application.repair import RepairReason
from app.entrypoints.admin.flag_command import flag_changes
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    change_id: Annotated[UUID, typer.Argument(help="The change that waits, as `flags list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the history.")],
) -> Outcome:
    """Bring a change that waits into force; one's own is refused."""
    session: Session = context.obj
    return asyncio.run(_approve(session, change_id, RepairReason(session.operator, reason)))


async def _approve(session: Session, change_id: UUID, reason: RepairReason) -> Outcome:
    async with session.audited_transaction("flags approve", reason.text) as (connection, detail):
        change = await flag_changes(session, PostgresFlagStore(connection)).approve(change_id, reason)
        detail["change_id"], detail["change"] = str(change.change_id), change.sentence
    return applied([change.sentence])
