"""What every repair command does: reason, audited run, one transaction, outcome."""

from __future__ import annotations

import asyncio
from uuid import UUID

from app.adapters.postgres.repairs import PostgresRepairStore
from app.application.repair import Repair, Repaired, RepairReason, carry_out
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def run(session: Session, repair: Repair, target: UUID, reason: str, done: str) -> Outcome:
    """Carry a repair out and say what was done; `done` says it with {repaired} in place of id and tenant."""
    repaired = asyncio.run(_carry_out(session, repair, target, RepairReason(session.operator, reason)))
    return applied([done.format(repaired=f"{repaired.target_id} of {repaired.tenant_id}")])


async def _carry_out(session: Session, repair: Repair, target: UUID, reason: RepairReason) -> Repaired:
    command = repair.action.replace(".", " ")
    async with session.audited_transaction(command, reason.text) as (connection, detail):
        repaired = await carry_out(repair, PostgresRepairStore(connection, UuidV7Ids()), target, reason)
        detail.update(target_type=repaired.target_type, target_id=repaired.target_id, tenant_id=repaired.tenant_id)
    return repaired
