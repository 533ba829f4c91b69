"""Gives the job of a decided case back to the workers, when that failed before."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.entrypoints.admin.fallout_desk import release
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    order_id: Annotated[UUID, typer.Argument(help="The order.")],
    step: Annotated[str, typer.Argument(help="The step, by its job type.")],
    incident: Annotated[
        int | None, typer.Option(help="The incident's key, where the engine's records no longer reach back to it.")
    ] = None,
) -> Outcome:
    """Resolve the incident of a case that was decided; what was decided, by whom and why is in the case."""
    session: Session = context.obj
    return asyncio.run(release(session, order_id, step, incident))
