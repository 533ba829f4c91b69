"""Builds the order projection anew from its events while the old one serves."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.projection_rebuild import OutboxHistory, PostgresShadowProjection
from app.application.projection_rebuild import EventHistory, LogHistory, Rebuilt, Source, rebuild
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids

_TOPIC = "oms.order.events.v1"


def command(
    context: typer.Context,
    source: Annotated[
        str, typer.Option(help="log: the topic as Kafka has it; outbox: the events as PostgreSQL has them.")
    ],
    reason: Annotated[str, typer.Option(help="What was wrong and which ticket; kept in the audit.")],
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's orders.")] = None,
) -> Outcome:
    """Build into a shadow, compare it with the orders, and switch in one transaction; refused when events are missing.

    Readers see the old rows until the switch. The consumer waits for the moment of the switch only.
    """
    session: Session = context.obj
    if source not in {"log", "outbox"}:
        raise typer.BadParameter("expected log or outbox", param_hint="--source")
    chosen: Source = "log" if source == "log" else "outbox"
    rebuilt = asyncio.run(_rebuild(session, chosen, RepairReason(session.operator, reason), tenant))
    return applied(
        [f"{rebuilt.changed_rows} rows of the order projection"] if rebuilt.changed_rows else [],
        {
            "rebuild_id": str(rebuilt.rebuild_id),
            "events": rebuilt.events,
            "orders": rebuilt.comparison.orders,
            "checksum": rebuilt.comparison.projection_checksum,
        },
    )


async def _rebuild(session: Session, source: Source, reason: RepairReason, tenant: str | None) -> Rebuilt:
    async with (
        session.database() as connection,
        session.audited(connection, "projections rebuild", reason.text) as detail,
        session.database() as own,
    ):
        detail.update(source=source, tenant=tenant)
        shadow = PostgresShadowProjection(own, UuidV7Ids(), tenant)
        if source == "outbox":
            history: EventHistory = OutboxHistory(own, _TOPIC, tenant)
            rebuilt = await rebuild(shadow, history, source, reason)
        else:
            with session.event_log(_TOPIC) as log:
                rebuilt = await rebuild(shadow, LogHistory(log, tenant), source, reason)
        detail.update(rebuild_id=str(rebuilt.rebuild_id), events=rebuilt.events, changed_rows=rebuilt.changed_rows)
    return rebuilt
