"""Changes a setting of running units."""

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
    value: Annotated[str, typer.Argument(help="Its new value, as the inventory would write it.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the history.")],
    unit: Annotated[str | None, typer.Option(help="Only this deployable, such as worker.")] = None,
) -> Outcome:
    """Change a setting of the kinds that may change at run time; in force within seconds, without a restart."""
    session: Session = context.obj
    return asyncio.run(change(session, name, value, unit, RepairReason(session.operator, reason)))
