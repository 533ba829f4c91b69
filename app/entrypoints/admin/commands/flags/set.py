"""Sets a flag, for the environment or for one tenant."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from app.application.repair import RepairReason
from app.entrypoints.admin.flag_command import change_flag
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


class Value(StrEnum):
    """How a value is written."""

    ON = "on"
    OFF = "off"


def command(
    context: typer.Context,
    flag: Annotated[str, typer.Argument(help="A flag of feature_flags.yml.")],
    value: Annotated[Value, typer.Argument(help="The new value.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the history.")],
    tenant: Annotated[str | None, typer.Option(help="Only for this tenant.")] = None,
) -> Outcome:
    """Set a flag; it is in force at once, or waits for a second person where the contract says so."""
    session: Session = context.obj
    why = RepairReason(session.operator, reason)
    return asyncio.run(change_flag(session, flag, tenant, why, value=value is Value.ON))
