"""Closes the circuit breaker of an external system before its time."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.guard_states import reset_guard
from app.application.repair import RepairReason, RepairRefusedError
from app.contracts.loader import load_external_systems
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    system: Annotated[str, typer.Option(help="The system whose breaker is closed.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
) -> Outcome:
    """Close a breaker and end the pause that the system asked for, for all processes at once."""
    session: Session = context.obj
    if system not in load_external_systems():
        raise RepairRefusedError(f"{system} is no external system; there are {', '.join(load_external_systems())}")
    return asyncio.run(_reset(session, system, RepairReason(session.operator, reason)))


async def _reset(session: Session, system: str, reason: RepairReason) -> Outcome:
    async with session.audited_transaction("external reset", reason.text) as (connection, detail):
        before = await reset_guard(connection, system)
        if before is None:
            raise RepairRefusedError(f"{system} was never called: there is nothing to reset")
        detail["external_system"], detail["before"] = system, {key: str(value) for key, value in before.items()}
    return applied([f"close the breaker of {system}, which was {before['state']}"])
