"""Everything known of the steps of an order that fell out."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from app.adapters.postgres.fallout import PostgresFalloutStore
from app.application.repair import RepairRefusedError
from app.domain.values import OrderId
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def command(context: typer.Context, order_id: Annotated[UUID, typer.Argument(help="The order.")]) -> Outcome:
    """Show every fallout case of an order, its steps, and the calls of each step that fell out."""
    session: Session = context.obj
    return asyncio.run(_show(session, OrderId(order_id)))


async def _show(session: Session, order_id: OrderId) -> Outcome:
    async with session.database() as connection:
        store = PostgresFalloutStore(connection, UuidV7Ids())
        cases = await store.of_order(order_id)
        if not cases:
            raise RepairRefusedError(f"order {order_id} never had a fallout case")
        # Reading holds rows for the time of one statement: there is no transaction around it.
        tasks = [asdict(task) for task in await store.tasks(order_id)]
        attempts = {step: await store.attempts(order_id, step) for step in {case.step for case in cases}}
    data = {
        "cases": [asdict(case) for case in cases],
        "steps": tasks,
        "calls": {step: [asdict(attempt) for attempt in calls] for step, calls in attempts.items()},
    }
    return Outcome(data=data)
