"""What every flag is, for the environment and for tenants, and what waits for approval."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.feature_flags import PostgresFlagStore
from app.contracts.loader import load_feature_flags
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's own values.")] = None,
) -> Outcome:
    """Show declarations, values and waiting changes."""
    session: Session = context.obj
    return asyncio.run(_list(session, tenant))


async def _list(session: Session, tenant: str | None) -> Outcome:
    declared = {flag: declaration.model_dump() for flag, declaration in load_feature_flags().items()}
    for flag, default in session.settings.feature_flag_defaults.items():
        declared[flag]["default_here"] = default
    async with session.database() as connection:
        return Outcome(data={"declared": declared, **await PostgresFlagStore(connection).overview(tenant)})
