"""Keeps why a host was added to a tier."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    tier: Annotated[str, typer.Option(help="The tier that grows.")],
    host: Annotated[str, typer.Option(help="The host that is added.")],
    reason: Annotated[str, typer.Option(help="Why, against the judgement, and which ticket; kept in the audit.")] = "",
) -> Outcome:
    """Write into the audit that a host is added, with the judgement that stands on standard input.

    A judgement that refuses needs a reason.
    """
    session: Session = context.obj
    judgement = session.input()
    if judgement["refusal"] or reason:
        reason = RepairReason(session.operator, reason).text
    return asyncio.run(_record(session, {"tier": tier, "host": host, "judgement": judgement}, reason or None))


async def _record(session: Session, detail: dict[str, Any], reason: str | None) -> Outcome:
    async with session.audited_transaction("scaling record", reason) as (_, kept):
        kept.update(detail)
    return Outcome(data=detail)
