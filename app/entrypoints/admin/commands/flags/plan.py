"""Where flags differ from their declared defaults without an operator having said so."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.feature_flags import FlagDrift, PostgresFlagStore
from app.adapters.postgres.operator_session import has_column
from app.contracts.loader import load_feature_flags
from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List flags without a value or with one that nobody set; exit 3 when there are any. An undeclared flag is refused."""
    session: Session = context.obj
    return asyncio.run(_plan(session))


async def _plan(session: Session) -> Outcome:
    declared, defaults = load_feature_flags(), session.settings.feature_flag_defaults
    async with session.database() as connection:
        # Before the migration of this release the flags cannot be judged: they are what apply will make of them.
        if not await has_column(connection, "feature_flag", "is_operator_set"):
            missing = [FlagDrift(flag, defaults.get(flag, declared[flag].default), None) for flag in sorted(declared)]
            return planned([drift.sentence for drift in missing])
        flags = PostgresFlagStore(connection)
        found = await flags.drift(declared, defaults)
        return planned([drift.sentence for drift in found], {"flags": await flags.values()})
