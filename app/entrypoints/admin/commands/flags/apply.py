"""Gives declared flags their defaults where nobody set a value."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.feature_flags import PostgresFlagStore
from app.application.flag_changes import FlagChange
from app.contracts.loader import load_feature_flags
from app.entrypoints.admin.flag_command import flag_changes
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Set flags to their declared defaults; a value an operator has set stays. An undeclared flag is refused."""
    session: Session = context.obj
    return asyncio.run(_apply(session))


async def _apply(session: Session) -> Outcome:
    declared, defaults = load_feature_flags(), session.settings.feature_flag_defaults
    async with session.audited_transaction("flags apply") as (connection, detail):
        flags = PostgresFlagStore(connection)
        found = await flags.drift(declared, defaults)
        await flag_changes(session, flags).hold_defaults(drift.flag for drift in found)
        for drift in found:
            await flags.put(drift.flag, None, enabled=drift.default, operator=session.operator, is_operator_set=False)
            reason = "the declared default of this environment"
            change = FlagChange(session.new_id(), drift.flag, None, drift.default, reason, session.operator)
            await flags.record(change, drift.stored)
        changes = [drift.sentence for drift in found]
        detail["changes"] = changes
        return applied(changes, {"flags": await flags.values()})
