"""The regular comparison of orders with processes, events and read models."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.reconciliation import findings
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from app.runtime.logging import get_logger


def command(
    context: typer.Context,
    older_than: Annotated[
        int, typer.Option(min=0, help="Minutes something may stand still before it is a finding.")
    ] = 15,
) -> Outcome:
    """List orders stuck, events unpublished, and where orders, processes and read models disagree. Repairs nothing."""
    session: Session = context.obj
    return asyncio.run(_run(session, timedelta(minutes=older_than)))


async def _run(session: Session, older_than: timedelta) -> Outcome:
    async with session.database() as connection:
        if not await has_table(connection, "order_projection"):
            return Outcome(data={"findings": [], "counts": {}})
        found = await findings(connection, older_than)
    counts = dict(sorted(Counter(finding.kind for finding in found).items()))
    # One line for the journal, by which alerts can be raised; the findings themselves are the output.
    get_logger(__name__).info(
        "reconciled", findings=len(found), **{kind.replace("-", "_"): count for kind, count in counts.items()}
    )
    return Outcome(data={"findings": [asdict(finding) for finding in found], "counts": counts})
