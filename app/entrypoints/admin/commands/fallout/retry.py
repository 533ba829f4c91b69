"""Lets a step that fell out run again."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.application.fallout import retry
from app.domain.values import OrderId
from app.entrypoints.admin.fallout_desk import decide
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    order_id: Annotated[UUID, typer.Argument(help="The order.")],
    step: Annotated[str, typer.Argument(help="The step, by its job type.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
    new_epoch: Annotated[
        bool, typer.Option(help="Call with a new idempotency key: only after the external system itself refused (4xx).")
    ] = False,
) -> Outcome:
    """Let a step run again, from its first run, and give its job back to the workers."""
    session: Session = context.obj
    return asyncio.run(
        decide(
            session,
            "retry",
            order_id,
            step,
            reason,
            act=lambda store, why, now: retry(store, OrderId(order_id), step, why, now, is_new_epoch=new_epoch),
        )
    )
