"""Closes the case of a reaction that stays undone, or was done by hand."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from app.application.repair import CLOSE_REACTION
from app.entrypoints.admin import repairing
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    reaction_id: Annotated[UUID, typer.Argument(help="The failed reaction; its fallout case names it.")],
    reason: Annotated[str, typer.Option(help="Why it stays undone, or who did it how; kept in the audit.")],
) -> Outcome:
    """Resolve the open case of a failed reaction; nothing is sent, and the reaction stays failed."""
    session: Session = context.obj
    return repairing.run(session, CLOSE_REACTION, reaction_id, reason, "close reaction {repaired}")
