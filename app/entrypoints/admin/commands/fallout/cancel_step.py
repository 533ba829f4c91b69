"""Gives a step up."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.application.fallout import cancel
from app.domain.values import OrderId
from app.entrypoints.admin.fallout_desk import decide
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    order_id: Annotated[UUID, typer.Argument(help="The order.")],
    step: Annotated[str, typer.Argument(help="The step, by its job type.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
) -> Outcome:
    """Give a step up whose work was certainly not done; the order goes on without it."""
    session: Session = context.obj
    return asyncio.run(
        decide(
            session,
            "cancel-step",
            order_id,
            step,
            reason,
            act=lambda store, why, now: cancel(store, OrderId(order_id), step, why, now),
        )
    )
