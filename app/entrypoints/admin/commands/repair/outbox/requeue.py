"""Gives a parked event to the relay again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from app.application.repair import REQUEUE_EVENT
from app.entrypoints.admin import repairing
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    event_id: Annotated[UUID, typer.Argument(help="The parked event.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
) -> Outcome:
    """Make a parked event pending again; the events of its order that wait behind it follow."""
    session: Session = context.obj
    return repairing.run(session, REQUEUE_EVENT, event_id, reason, "requeue event {repaired}")
