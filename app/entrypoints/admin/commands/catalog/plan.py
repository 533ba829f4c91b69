"""Which demo tenants have no catalog yet."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.catalog_seed import unpublished
from app.adapters.postgres.operator_session import has_table
from app.entrypoints.admin.demo_catalog import ProofTenant, seeded_tenants
from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context, tenant: ProofTenant = None) -> Outcome:
    """List demo tenants whose catalog version 1 would be published; exit 3 when there are any."""
    session: Session = context.obj
    return asyncio.run(_plan(session, tenant))


async def _plan(session: Session, tenant: str | None) -> Outcome:
    tenants = seeded_tenants(tenant)
    async with session.database() as connection:
        there = await has_table(connection, "catalog_version")
        missing = await unpublished(connection, tenants) if there else tenants
    return planned([f"publish catalog version 1 of {one['tenant_id']}" for one in missing])
