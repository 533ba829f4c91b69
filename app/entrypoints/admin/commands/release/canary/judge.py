"""Whether a canary goes on to everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from app.adapters.http.unit_metrics import look
from app.adapters.postgres.canary_flows import canary_flows
from app.application.canary.judgement import Judgement, Measured, Row, Unmeasured, judge
from app.application.canary.measurement import of_flows, of_servers
from app.application.canary.prices import PriceComparison
from app.contracts.loader import load_canary_measures
from app.domain.canary import Cohort
from app.entrypoints.admin.canary_input import Servers, cohort_of, moment, price_comparison
from app.entrypoints.admin.outcome import EXIT_DRIFT, EXIT_INCONCLUSIVE, Outcome
from app.entrypoints.admin.wiring import InputError, Session
from app.runtime.columns import aligned

_EXIT = {"promote": 0, "abort": EXIT_DRIFT, "inconclusive": EXIT_INCONCLUSIVE}


def command(
    context: typer.Context,
    cohort: Annotated[
        str, typer.Option(help="The canary: DIMENSION:VALUE,VALUE of tenant, percent, product-line, process.")
    ],
    since: Annotated[datetime, typer.Option(help="Quotes and orders begun from then on, in UTC.")],
    former_prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What release canary reprice of the former release wrote."),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What release canary reprice of this release wrote."),
    ] = None,
) -> Outcome:
    """Judge a canary against everybody else at the same time, by the measures of app/contracts/canary.yml. Reads only.

    Standard input: {"targets": [...], "canary_hosts": [names of API hosts], "observation_seconds": n}.
    Exit 0 promote, 3 abort, 4 inconclusive: too little was seen, or what was seen may be chance; 1 the command failed.
    """
    session: Session = context.obj
    chosen, begun, given = cohort_of(cohort), moment(since), session.given(Servers)
    return asyncio.run(_judge(session, chosen, begun, given, price_comparison(chosen, former_prices, prices)))


async def _judge(
    session: Session, cohort: Cohort, since: datetime, given: Servers, compared: PriceComparison | None
) -> Outcome:
    measures = load_canary_measures()
    measured: dict[str, Measured] = {}
    before = after = await look(given.targets)
    if given.canary_hosts:
        await asyncio.sleep(given.observation_seconds)
        after = await look(given.targets)
    try:
        measured |= of_servers(measures, given.targets, given.canary_hosts, before, after)
    except ValueError as error:
        raise InputError(str(error)) from error
    async with session.database() as connection, canary_flows(connection) as flows:
        if problems := await flows.unknown(cohort):
            raise InputError(*problems)
        measured |= of_flows(measures, cohort, await flows.groups(since))
        until = flows.until
    unpriced = Unmeasured("no prices were given: --former-prices and --prices")
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
