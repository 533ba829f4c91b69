"""Puts what tenants sell into the cache, before their clients ask."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.entrypoints.admin.outcome import Outcome, applied, failed
from app.entrypoints.admin.warming import active_catalogs, warm
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
) -> Outcome:
    """Cache the offerings of the active catalog versions; after a flush, a restart, or before a busy day."""
    session: Session = context.obj
    return asyncio.run(_warm_up(session, tenant))


async def _warm_up(session: Session, tenant: str | None) -> Outcome:
    async with session.database() as connection, session.audited(connection, "redis warm-up") as detail:
        catalogs = await active_catalogs(connection, tenant)
        detail["warmed"] = [
            f"{each}: {await warm(session, connection, each, version)} offerings of version {version}"
            for each, version in catalogs.items()
        ]
    if catalogs and not any(int(line.split(": ")[1].split()[0]) for line in detail["warmed"]):
        return failed(["Redis took none of them; it is not needed for any answer"])
    return applied(detail["warmed"])
