"""Which partitions of consumer groups wait for a person."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.consumer_operations import ConsumerOperations
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(help="Of this consumer group only.")] = None,
) -> Outcome:
    """List partitions that rest until somebody decides: `acknowledge` ends a limit, `move` a lost position."""
    session: Session = context.obj
    return asyncio.run(_list(session, group))


async def _list(session: Session, group: str | None) -> Outcome:
    async with session.database() as connection:
        return Outcome(data={"halts": await ConsumerOperations(connection).halts(group)})
