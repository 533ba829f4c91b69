"""Lets the starter try again to start an order's process."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from app.application.repair import RETRY_START
from app.entrypoints.admin import repairing
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    order_id: Annotated[UUID, typer.Argument(help="The order whose process waits or could not be started.")],
    reason: Annotated[str, typer.Option(help="What happened and which ticket; kept in the audit.")],
) -> Outcome:
    """Make an order's workflow reference due now; refused once its process was started."""
    session: Session = context.obj
    return repairing.run(session, RETRY_START, order_id, reason, "retry the start of order {repaired}")
