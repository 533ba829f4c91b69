"""Whether a canary goes on to everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from app.adapters.postgres.canary_flows import canary_flows
from app.application.canary.judgement import Judgement, Measured, Row, Unmeasured, judge
from app.application.canary.measurement import of_flows
from app.application.canary.prices import PriceComparison
from app.contracts.loader import load_canary_measures
from app.domain.canary import Cohort
from app.entrypoints.admin.canary_input import Found, begun, cohort_of, moment, price_comparison
from app.entrypoints.admin.outcome import EXIT_DRIFT, EXIT_INCONCLUSIVE, Outcome
from app.entrypoints.admin.wiring import InputError, Session
from app.runtime.columns import aligned

_EXIT = {"promote": 0, "abort": EXIT_DRIFT, "inconclusive": EXIT_INCONCLUSIVE}


def command(
    context: typer.Context,
    cohort: Annotated[
        str, typer.Option(help="The canary: DIMENSION:VALUE,VALUE of tenant, percent, product-line, process.")
    ],
    since: Annotated[
        datetime | None,
        typer.Option(help="Quotes and orders begun from then on, in UTC; since a release brought its hosts here."),
    ] = None,
) -> Outcome:
    """Judge a canary against everybody else at the same time, by the measures of app/contracts/canary.yml. Reads only.

    Standard input: {"servers": measured by observe, "former_prices": data of reprice by the former release, "prices": and by this one}.
    Exit 0 promote, 3 abort, 4 inconclusive: too little was seen, or what was seen may be chance; 1 the command failed.
    """
    session: Session = context.obj
    chosen, found = cohort_of(cohort), session.given(Found)
    start = None if since is None else moment(since)
    return asyncio.run(_judge(session, chosen, start, found.servers, price_comparison(chosen, found)))


async def _judge(
    session: Session,
    cohort: Cohort,
    given_since: datetime | None,
    servers: Mapping[str, Measured],
    compared: PriceComparison | None,
) -> Outcome:
    since = given_since or await begun(session)
    measures = load_canary_measures()
    # Figures of flows and prices are counted here: nobody else gives them.
    of_api = [name for name, measure in measures.items() if measure.figure in {"errors", "latency"}]
    if strange := sorted(set(servers) - set(of_api)):
        raise InputError(f"servers.{strange[0]}: expected measures of servers: {', '.join(of_api)}")
    measured = {name: servers.get(name, Unmeasured("no servers were observed")) for name in of_api}
    async with session.database() as connection, canary_flows(connection) as flows:
        if problems := await flows.unknown(cohort):
            raise InputError(*problems)
        measured |= of_flows(measures, cohort, await flows.groups(since))
        until = flows.until
    unpriced = Unmeasured("prices of both releases were not given")
    measured |= {name: compared or unpriced for name, measure in measures.items() if measure.figure == "price"}
    about = {"cohort": str(cohort), "since": since.isoformat(), "until": until.isoformat()}
    return outcome(judge(measures, measured), about)


def outcome(judgement: Judgement, about: dict[str, Any]) -> Outcome:
    """What is said of a judgement: the verdict with its reasons, and the table it stands on."""
    verdict = judgement.verdict
    head = f"{verdict}: {about['cohort']}, begun between {about['since']} and {about['until']}, against all others"
    return Outcome(
        problems=[f"{verdict}: {reason}" for reason in judgement.reasons],
        data={**about, "verdict": verdict, "measures": [asdict(row) for row in judgement.rows]},
        report=f"{head}\n\n{_text(judgement.rows)}",
        exit_code=_EXIT[verdict],
    )


def _text(rows: Sequence[Row]) -> str:
    titles = ("measure", "finding", "critical", "canary", "control", "samples", "limit")
    cells = [titles] + [
        (row.measure, row.finding, "yes" if row.critical else "no", row.canary, row.control, row.samples, row.limit)
        for row in rows
    ]
    reasons = [f"{row.measure}: {row.reason}" for row in rows if row.finding == "left out"]
    return "\n".join([*aligned(cells), *reasons]) + "\n"
