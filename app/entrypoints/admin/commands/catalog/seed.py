"""Publishes the demo catalog, for environments whose inventory asks for it."""

from __future__ import annotations

import asyncio
from importlib import resources

import typer
import yaml

from app.adapters.postgres.catalog_seed import seed
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Publish catalog version 1 of the demo tenants where they have none. Nothing published is ever changed."""
    session: Session = context.obj
    return asyncio.run(_seed(session))


async def _seed(session: Session) -> Outcome:
    tenants = yaml.safe_load(resources.files("app.entrypoints.admin").joinpath("demo_catalog.yml").read_text())[
        "tenants"
    ]
    async with session.database() as connection, session.audited(connection, "catalog seed") as detail:
        published = await seed(connection, tenants, session.operator)
        detail["published"] = published
        return applied([f"publish catalog version 1 of {tenant}" for tenant in published])
