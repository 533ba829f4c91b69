"""Leaves a dead letter out for good."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from app.entrypoints.admin import deciding
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    dead_letter_id: Annotated[UUID, typer.Argument(help="The dead letter.")],
    reason: Annotated[str, typer.Option(help="Why its effect may be missing and which ticket; kept in the audit.")],
) -> Outcome:
    """Go on without the event's effect: for one that can never be read. What waits behind it follows in order."""
    session: Session = context.obj
    return deciding.run(session, "dead-letters discard", dead_letter_id, "discarded", reason)
