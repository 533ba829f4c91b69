"""Leaves a parked event out."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from app.application.repair import DISCARD_EVENT
from app.entrypoints.admin import repairing
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    event_id: Annotated[UUID, typer.Argument(help="The parked event.")],
    reason: Annotated[str, typer.Option(help="Why nobody needs it and which ticket; kept in the audit.")],
) -> Outcome:
    """Never publish a parked event; the events of its order that wait behind it follow.

    No group hears of it, so what it would have brought about, such as billing, is for a person to do. The row stays, the
    order's sequence has a gap in the topic, and the reconciliation group names it (`sequence-gap`).
    """
    session: Session = context.obj
    return repairing.run(session, DISCARD_EVENT, event_id, reason, "discard event {repaired}")
