"""Makes a draft the catalog version that new quotes are made from."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.catalog_publication import Publications
from app.application.repair import RepairReason
from app.domain.values import TenantId
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.warming import warm
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(
    context: typer.Context,
    version: Annotated[int, typer.Argument(min=1, help="A draft's number.")],
    tenant: Annotated[str, typer.Option(help="Whose catalog.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the audit.")],
) -> Outcome:
    """Publish a draft and retire the version before it, in one transaction; then warm the cache with the new one."""
    session: Session = context.obj
    return asyncio.run(_publish(session, TenantId(tenant), version, RepairReason(session.operator, reason)))


async def _publish(session: Session, tenant: TenantId, version: int, reason: RepairReason) -> Outcome:
    async with session.database() as connection:
        async with session.audited(connection, "catalog publish", reason.text) as detail, connection.transaction():
            retired = await Publications(connection, UuidV7Ids()).publish(tenant, version, reason)
            detail["tenant_id"], detail["catalog_version"], detail["retired"] = tenant, version, retired
        # Every API process hears of it and does the same; where none runs, the cache is warm all the same.
        warmed = await warm(session, connection, tenant, version)
    return applied([f"publish catalog version {version} of {tenant}"], {"retired": retired, "warmed": warmed})
