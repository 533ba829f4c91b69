"""Ends a freeze of releases."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.release_freezes import ReleaseFreezes
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why it may end, and which ticket; kept with the audit entry.")],
) -> Outcome:
    """End the freeze that is in force."""
    session: Session = context.obj
    return asyncio.run(_thaw(session, RepairReason(session.operator, reason)))


async def _thaw(session: Session, why: RepairReason) -> Outcome:
    async with session.audited_transaction("release thaw", why.text) as (connection, detail):
        ended = await ReleaseFreezes(connection).thaw(why)
        detail["ended"] = ended.words
    return Outcome(changes=[f"end the freeze: {ended.words}"], changed=True)
