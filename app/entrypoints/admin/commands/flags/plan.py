"""Which declared flags the environment does not have yet."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.feature_flags import FeatureFlags
from app.adapters.postgres.operator_session import has_table
from app.contracts.loader import load_feature_flags
from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List declared flags without a value; exit 3 when there are any. A flag nobody declared is refused by its name."""
    session: Session = context.obj
    return asyncio.run(_plan(session))


async def _plan(session: Session) -> Outcome:
    declared = load_feature_flags()
    async with session.database() as connection:
        if not await has_table(connection, "feature_flag"):
            return planned([f"set {flag} to its default" for flag in sorted(declared)])
        flags = FeatureFlags(connection)
        missing = await flags.missing(declared)
        return planned([f"set {flag} to its default" for flag in missing], {"flags": await flags.values()})
