"""What the guards of the external systems know."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from app.adapters.postgres.guard_states import GuardState, guard_states
from app.adapters.postgres.operator_session import has_table
from app.contracts.loader import load_external_systems
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Show circuit breaker, pause and last error of each external system; a system without a row was never called."""
    session: Session = context.obj
    states = {state.external_system: state for state in asyncio.run(_states(session))}
    systems = {
        name: asdict(states[name]) if name in states else {"external_system": name, "state": "never called"}
        for name in load_external_systems()
    }
    return Outcome(data={"systems": systems})


async def _states(session: Session) -> list[GuardState]:
    async with session.database() as connection:
        return await guard_states(connection) if await has_table(connection, "external_system_guard") else []
