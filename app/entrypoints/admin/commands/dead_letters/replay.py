"""Has a dead letter tried again."""

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
    reason: Annotated[str, typer.Option(help="What was mended and which ticket; kept in the audit.")],
) -> Outcome:
    """Let the consumer try the event again from its first attempt; what waits behind it follows in order.

    Repeated, it changes nothing. An event that fails again becomes the same dead letter again.
    """
    session: Session = context.obj
    return deciding.run(session, "dead-letters replay", dead_letter_id, "replaying", reason)
