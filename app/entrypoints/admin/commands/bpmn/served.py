"""Which job types live workers serve."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from app.adapters.postgres.process_deployments import LiveWorker, ProcessDeployments
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List the workers heard of within the last minute and the job types they serve."""
    session: Session = context.obj
    workers = asyncio.run(_live(session))
    job_types = sorted({job_type for worker in workers for job_type in worker.job_types})
    return Outcome(data={"job_types": job_types, "workers": [asdict(worker) for worker in workers]})


async def _live(session: Session) -> list[LiveWorker]:
    async with session.database() as connection:
        return await ProcessDeployments(connection).live_workers()
