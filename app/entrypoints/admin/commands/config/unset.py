"""Goes back to the setting that running units were started with."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.application.repair import RepairReason
from app.entrypoints.admin.config_command import change
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The variable, such as LOG_LEVEL.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the history.")],
    unit: Annotated[str | None, typer.Option(help="The value set for this deployable alone.")] = None,
) -> Outcome:
    """Take an operator's value away."""
    session: Session = context.obj
    return asyncio.run(change(session, name, None, unit, RepairReason(session.operator, reason)))
