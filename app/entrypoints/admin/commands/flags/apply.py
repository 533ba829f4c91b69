"""Gives declared flags their defaults where they have no value."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.feature_flags import FeatureFlags
from app.contracts.loader import load_feature_flags
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Set missing flags to their defaults; a value an operator has set stays. An undeclared flag is refused."""
    session: Session = context.obj
    return asyncio.run(_apply(session))


async def _apply(session: Session) -> Outcome:
    declared = load_feature_flags()
    async with session.database() as connection, session.audited(connection, "flags apply") as detail:
        flags = FeatureFlags(connection)
        missing = await flags.missing(declared)
        await flags.insert(declared, missing, session.operator)
        changes = [f"set {flag} to its default, {str(declared[flag].default).lower()}" for flag in missing]
        detail["changes"] = changes
        return applied(changes, {"flags": await flags.values()})
