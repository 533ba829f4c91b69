"""Gives a failed reaction to the workers again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from app.application.repair import RETRY_REACTION
from app.entrypoints.admin import repairing
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    reaction_id: Annotated[UUID, typer.Argument(help="The failed reaction; its fallout case names it.")],
    reason: Annotated[str, typer.Option(help="What was mended and which ticket; kept in the audit.")],
) -> Outcome:
    """Make a failed reaction pending again, from its first run, under the same idempotency key."""
    session: Session = context.obj
    return repairing.run(session, RETRY_REACTION, reaction_id, reason, "retry reaction {repaired}")
