"""The checks after a release."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from app.adapters.postgres.release_journal import ReleaseJournal, StepState
from app.application.release_checks import failures
from app.entrypoints.admin import measuring
from app.entrypoints.admin.outcome import Outcome, failed, judged
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context, holder: Annotated[str, typer.Option(help="Who holds the release, as given to begin.")]
) -> Outcome:
    """Judge API latency, error rate, Kafka lag, Camunda incidents, DB locks and business success rate.

    Compares with the baseline in the journal; limits and targets come from standard input; release.yml gives them.
    """
    session: Session = context.obj
    return asyncio.run(_postcheck(session, holder))


async def _postcheck(session: Session, holder: str) -> Outcome:
    given = session.given(measuring.Surroundings)
    async with session.database() as connection:
        journal = ReleaseJournal(connection)
        run_id = await journal.held_by(holder)
        kept = next((step["evidence"] for step in await journal.steps(run_id) if step["step"] == "baseline"), None)
        if kept is None:
            return failed(["no baseline in the journal: cpq-oms-admin release baseline comes before the smoke test"])
        checks = await measuring.postchecks(session, given, measuring.stored_baseline(kept))
        state: StepState = "failed" if failures(checks) else "succeeded"
        await journal.step(run_id, "post-checks", state, {"checks": [asdict(check) for check in checks]})
    return judged(checks)
