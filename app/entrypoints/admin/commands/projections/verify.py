"""Whether the order projection is what the orders are."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from app.adapters.postgres.projection_rebuild import compare_projection
from app.entrypoints.admin.outcome import EXIT_DRIFT, Outcome
from app.entrypoints.admin.wiring import Session

_SHOWN = 100


def command(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    settle: Annotated[int, typer.Option(min=0, help="Seconds that an order's event may still be under way.")] = 30,
) -> Outcome:
    """Compare checksums of orders and order projection, name the orders that differ; exit 3 when there are any."""
    session: Session = context.obj
    return asyncio.run(_verify(session, tenant, timedelta(seconds=settle)))


async def _verify(session: Session, tenant: str | None, settle: timedelta) -> Outcome:
    async with session.database() as connection:
        comparison = await compare_projection(connection, tenant, settle)
    return Outcome(
        changes=[f"order {order_id} is projected otherwise than it is" for order_id in comparison.differing[:_SHOWN]],
        data=asdict(comparison) | {"differing": len(comparison.differing)},
        exit_code=0 if comparison.is_equal else EXIT_DRIFT,
    )
