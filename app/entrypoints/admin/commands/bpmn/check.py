"""Whether every job type of the bundle's processes has a worker: in this bundle, or alive."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.zeebe.process_definitions import read_definitions, unserved
from app.contracts.loader import load_job_types, load_processes
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    bundle_only: Annotated[
        bool, typer.Option(help="Ask no database: judge by the bundle and --also-served. Needs no settings.")
    ] = False,
    also_served: Annotated[list[str] | None, typer.Option(help="A job type served by workers known elsewhere.")] = None,
) -> Outcome:
    """Refuse a process that emits a job type neither this bundle's workers nor running ones serve."""
    session: Session = context.obj
    definitions = read_definitions(session.bundled("bpmn"), load_processes())
    bundled = set(load_job_types().job_types)
    live = set(also_served or ()) if bundle_only else asyncio.run(_live(session)) | set(also_served or ())
    data = {"bundled": sorted(bundled), "live": sorted(live), "processes": [item.process_id for item in definitions]}
    problems = unserved(definitions, bundled | live)
    return failed(problems, data) if problems else Outcome(data=data)


async def _live(session: Session) -> set[str]:
    async with session.database() as connection:
        workers = await ProcessDeployments(connection).live_workers()
    return {job_type for worker in workers for job_type in worker.job_types}
