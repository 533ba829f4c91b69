"""Publishes the demo catalog, for environments whose inventory asks for it."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.catalog_seed import seed
from app.entrypoints.admin.demo_catalog import ProofTenant, seeded_tenants
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context, tenant: ProofTenant = None) -> Outcome:
    """Publish catalog version 1 of the demo tenants where they have none. Nothing published is ever changed."""
    session: Session = context.obj
    return asyncio.run(_seed(session, tenant))


async def _seed(session: Session, tenant: str | None) -> Outcome:
    async with session.database() as connection, session.audited(connection, "catalog seed") as detail:
        published = await seed(connection, seeded_tenants(tenant), session.operator)
        detail["published"] = published
        return applied([f"publish catalog version 1 of {one}" for one in published])
