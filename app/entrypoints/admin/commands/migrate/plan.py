"""What the expand job would apply."""

from __future__ import annotations

from dataclasses import asdict

import typer

from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List pending expand migrations; exit 3 when there are any. An edited applied file is refused by its name."""
    session: Session = context.obj
    plan = session.migrator().plan()
    return planned([f"apply {name}" for name in plan.pending], asdict(plan))
