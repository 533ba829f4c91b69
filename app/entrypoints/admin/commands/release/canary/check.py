"""Whether there is anybody to be a canary."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.canary_flows import canary_flows
from app.domain.canary import Cohort
from app.entrypoints.admin.canary_input import cohort_of
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    cohort: Annotated[str, typer.Option(help="DIMENSION:VALUE,VALUE of tenant, percent, product-line, process.")],
) -> Outcome:
    """Refuse a cohort whose names no tenant, catalog or route has: a release would wait for samples that never come."""
    session: Session = context.obj
    return asyncio.run(_check(session, cohort_of(cohort)))


async def _check(session: Session, cohort: Cohort) -> Outcome:
    async with session.database() as connection, canary_flows(connection) as flows:
        if problems := await flows.unknown(cohort):
            return failed(problems)
    return Outcome(report=f"{cohort} is known\n")
