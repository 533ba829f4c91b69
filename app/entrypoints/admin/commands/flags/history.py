"""Who changed which flag, when and why."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.feature_flags import PostgresFlagStore
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    flag: Annotated[str | None, typer.Argument(help="Only this flag.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
) -> Outcome:
    """List changes, the newest first."""
    session: Session = context.obj
    return asyncio.run(_history(session, flag, tenant))


async def _history(session: Session, flag: str | None, tenant: str | None) -> Outcome:
    async with session.database() as connection:
        return Outcome(data={"changes": await PostgresFlagStore(connection).history(flag, tenant)})
