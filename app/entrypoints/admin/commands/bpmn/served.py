"""Which job types live workers serve, and which processes orders can still reach."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import typer

from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.process_versions import reached
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List the workers heard of within the last minute and what they serve, and what orders can still reach."""
    session: Session = context.obj
    return Outcome(data=asyncio.run(environment(session)))


async def environment(session: Session) -> dict[str, Any]:
    """The environment's workers and reached processes; nothing is reached before the schema has routes."""
    async with session.database() as connection:
        store = PostgresProcessStore(connection)
        workers = await store.live_workers()
        processes = await reached(store) if await store.is_there() else []
    return {
        "job_types": sorted({job_type for worker in workers for job_type in worker.job_types}),
        "workers": [asdict(worker) for worker in workers],
        "reached": [{**asdict(process), "because": process.because} for process in processes],
    }
