"""What accepted quotes cost by the release that this command belongs to."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import typer

from app.adapters.postgres.canary_flows import canary_flows
from app.application.canary.prices import Repriced, reprice
from app.domain.canary import Cohort
from app.entrypoints.admin.canary_input import begun, cohort_of, moment
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    cohort: Annotated[
        str, typer.Option(help="Whose quotes: DIMENSION:VALUE,VALUE of tenant, percent, product-line, process.")
    ],
    since: Annotated[
        datetime | None,
        typer.Option(help="Quotes accepted from then on, in UTC; since a release brought the canary's hosts here."),
    ] = None,
) -> Outcome:
    """Price the accepted quotes of a cohort again with this release's own code, line by line; stores nothing.

    Its data is input of release canary judge: once by the former release's command, once by this one's.
    """
    session: Session = context.obj
    return asyncio.run(_reprice(session, cohort_of(cohort), None if since is None else moment(since)))


async def _reprice(session: Session, cohort: Cohort, given_since: datetime | None) -> Outcome:
    since = given_since or await begun(session)
    async with session.database() as connection, canary_flows(connection) as flows:
        if problems := await flows.unknown(cohort):
            return failed(problems)
        quotes = await flows.accepted(cohort, since)
        until = flows.until
    lines = tuple(line for quote, offerings in quotes for line in reprice(quote, offerings))
    repriced = Repriced(release=session.release.release_id, cohort=str(cohort), since=since, until=until, lines=lines)
    counted = f"{len(quotes)} accepted quotes of {cohort} in {len(lines)} lines by {repriced.release}\n"
    return Outcome(data=repriced.model_dump(mode="json"), report=counted)
