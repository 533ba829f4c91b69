"""Takes a flag's value away: a tenant's own, or the environment's in favour of the declared default."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.application.repair import RepairReason
from app.entrypoints.admin.flag_command import change_flag
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    flag: Annotated[str, typer.Argument(help="A flag of feature_flags.yml.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the history.")],
    tenant: Annotated[str | None, typer.Option(help="The tenant's own value; without it, the environment's.")] = None,
) -> Outcome:
    """Go back to the environment's value (for a tenant) or to the declared default (for the environment)."""
    session: Session = context.obj
    return asyncio.run(change_flag(session, flag, tenant, RepairReason(session.operator, reason), value=None))
