"""Records that the work of a step was done by hand."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.application.fallout import complete
from app.domain.values import OrderId
from app.entrypoints.admin.fallout_desk import decide
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    order_id: Annotated[UUID, typer.Argument(help="The order.")],
    step: Annotated[str, typer.Argument(help="The step, by its job type.")],
    reference: Annotated[str, typer.Option(help="How the external system calls what was done: the evidence.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
) -> Outcome:
    """Record that a step is done, as somebody saw, and give its job back to the workers: the process goes on behind it."""
    session: Session = context.obj
    return asyncio.run(
        decide(
            session,
            "complete",
            order_id,
            step,
            reason,
            act=lambda store, why, now: complete(store, OrderId(order_id), step, why, now, reference=reference),
        )
    )
