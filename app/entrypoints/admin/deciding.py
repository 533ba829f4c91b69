"""What both decisions about a dead letter do: reason, audited run, one transaction, outcome."""

from __future__ import annotations

import asyncio
from uuid import UUID

from app.adapters.postgres.dead_letter_desk import PostgresDeadLetterDesk
from app.application.dead_letters import Decision, decide
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def run(session: Session, command: str, dead_letter_id: UUID, decision: Decision, reason: str) -> Outcome:
    """Decide; decided before, nothing is changed."""
    is_new = asyncio.run(_decide(session, command, dead_letter_id, decision, RepairReason(session.operator, reason)))
    return applied([f"{decision} dead letter {dead_letter_id}"] if is_new else [])


async def _decide(
    session: Session, command: str, dead_letter_id: UUID, decision: Decision, reason: RepairReason
) -> bool:
    async with session.audited_transaction(command, reason.text) as (connection, detail):
        is_new = await decide(PostgresDeadLetterDesk(connection, UuidV7Ids()), dead_letter_id, decision, reason)
        detail.update(dead_letter_id=str(dead_letter_id), is_new=is_new)
    return is_new
