"""Lets a group go on that the dead-letter limit stopped."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.consumer_operations import ConsumerOperations
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    group: Annotated[str, typer.Argument(help="The consumer group.")],
    reason: Annotated[str, typer.Option(help="What was mended and which ticket; kept in the audit.")],
) -> Outcome:
    """Let the partitions go on that the dead-letter limit stopped. Repeated, it changes nothing.

    Failures within the limit's window still count: when the cause was not mended, the next failing event stops it again.
    """
    session: Session = context.obj
    return asyncio.run(_acknowledge(session, group, RepairReason(session.operator, reason)))


async def _acknowledge(session: Session, group: str, reason: RepairReason) -> Outcome:
    async with session.audited_transaction("consumers acknowledge", reason.text) as (connection, detail):
        lifted = [str(partition) for partition in await ConsumerOperations(connection).lift_limit(group)]
        detail.update(group=group, partitions=lifted)
    return applied([f"{group} goes on in {partition}" for partition in lifted])
