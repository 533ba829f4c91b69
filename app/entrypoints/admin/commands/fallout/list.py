"""Steps that wait for a person."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.fallout import PostgresFalloutStore
from app.application.fallout import FalloutEntry
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(context: typer.Context) -> Outcome:
    """List the cases that wait for a decision, and decided ones whose job still waits in the engine; oldest first."""
    session: Session = context.obj
    cases = asyncio.run(_waiting(session))
    return Outcome(data={"cases": [_shown(case) for case in cases]})


async def _waiting(session: Session) -> list[FalloutEntry]:
    async with session.database() as connection:
        return await PostgresFalloutStore(connection, UuidV7Ids()).waiting()


def _shown(case: FalloutEntry) -> dict[str, object]:
    return {
        "tenant_id": case.tenant_id,
        "order_id": case.order_id,
        "step": case.step,
        "error_code": case.error_code,
        "detail": case.detail,
        "opened_at": case.opened_at,
        "waits_for": "a decision" if case.state == "open" else f"the engine, after {case.decision}",
    }
