"""Carries a decision on a fallout case out: first in the database, then in the workflow engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

from app.adapters.kafka.engine_records import Incident
from app.adapters.postgres.fallout import PostgresFalloutStore
from app.adapters.postgres.platform_health import PlatformHealth
from app.adapters.postgres.pool import Connection
from app.application.fallout import FalloutEntry
from app.application.operations import OperationError
from app.application.repair import Repaired, RepairReason, RepairRefusedError
from app.contracts.loader import load_job_types
from app.domain.values import OrderId
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids

Decide = Callable[[PostgresFalloutStore, RepairReason, datetime], Awaitable[Repaired]]

# An incident is exported within seconds of the case; the job of a killed worker falls out a minute later.
_BEFORE, _AFTER = timedelta(seconds=5), timedelta(minutes=5)
_EXPORT_SECONDS = 10
# No worker holds a job longer than this without the engine delivering it to another.
_DELIVERED_AFTER = timedelta(minutes=5)


async def decide(
    session: Session, command: str, order_id: UUID, step: str, reason_text: str, *, act: Decide
) -> Outcome:
    """Decide, audited, and release the job; a job that could not be released is a problem that names what to do."""
    reason = RepairReason(session.operator, reason_text)
    async with (
        session.database() as connection,
        session.audited(connection, f"fallout {command}", reason.text) as detail,
    ):
        store = PostgresFalloutStore(connection, UuidV7Ids())
        async with connection.transaction():
            repaired = await act(store, reason, await PlatformHealth(connection).now())
        detail |= {"tenant_id": repaired.tenant_id, "target": repaired.target_id, "after": repaired.after}
        change = f"{command} {step} of order {order_id} of {repaired.tenant_id}: {repaired.after['state']}"
        case = await store.awaiting_release(OrderId(order_id), step)
        if case is None:
            return applied([change])
        try:
            detail["engine"] = released = await _release(session, connection, store, case)
        except OperationError as error:
            detail["engine"] = str(error)
            problem = f"decided, but its job still waits in the engine: {error}; cpq-oms-admin fallout release {order_id} {step}"
            return Outcome(changes=[change], changed=True, problems=[problem], exit_code=1)
    return applied([change, released])


async def release(session: Session, order_id: UUID, step: str, incident_key: int | None) -> Outcome:
    """Release the job of a case that was decided before."""
    async with session.database() as connection, session.audited(connection, "fallout release") as detail:
        store = PostgresFalloutStore(connection, UuidV7Ids())
        case = await store.awaiting_release(OrderId(order_id), step)
        if case is None:
            raise RepairRefusedError(f"no decided case of step {step} of order {order_id} waits for the engine")
        detail["engine"] = released = await _release(session, connection, store, case, incident_key)
    return applied([released])


async def _release(
    session: Session,
    connection: Connection,
    store: PostgresFalloutStore,
    case: FalloutEntry,
    incident_key: int | None = None,
) -> str:
    """Give the case's job back to the workers; say how.

    Raises:
        OperationError: the engine or its records cannot be asked, or show no incident yet.
    """
    retries = load_job_types().job_types[case.step].retries
    if incident_key is not None:
        if case.job_key is None:
            raise RepairRefusedError("the job of this case is not known")
        incidents = [(incident_key, case.job_key)]
    else:
        incidents = [(incident.key, incident.job_key) for incident in await _incidents(session, case)]
    async with session.engine() as engine:
        for key, job_key in incidents:
            if await engine.resolve_incident(key, job_key, retries):
                await store.mark_released(case.fallout_id)
                return f"resolve incident {key} and deliver job {job_key} again"
    decided_for = await PlatformHealth(connection).now() - (case.resolved_at or case.opened_at)
    if not incidents and decided_for < _DELIVERED_AFTER:
        raise RepairRefusedError("its records show no incident of it yet")
    await store.mark_released(case.fallout_id)
    return "nothing: no incident is left, so the engine delivers the job by itself"


async def _incidents(session: Session, case: FalloutEntry) -> list[Incident]:
    """The incidents that may hold the case's job, newest first; looks again while none was exported."""
    instance = case.process_instance_key
    if instance is None:
        return []
    records, since = session.engine_records(), case.opened_at - _BEFORE
    for look in range(_EXPORT_SECONDS):
        until = case.opened_at + _AFTER if look == 0 else None
        found = await asyncio.to_thread(records.incidents_of, instance, since, until)
        own = [
            incident
            for incident in found
            if incident.job_key == case.job_key or incident.message.startswith(case.error_code)
        ]
        if own:
            return own
        await asyncio.sleep(1)
    return []
