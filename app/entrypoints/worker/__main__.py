"""cpq-oms-worker: one group of workers, either a starter of processes or servers of job types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.adapters.http.external_system import new_client
from app.adapters.http.proven_endpoint import wrong_endpoints
from app.adapters.postgres.schema import SchemaTooOldError
from app.application.ports import StoreUnavailable
from app.contracts.loader import ContractError, Contracts, environment_problems, load
from app.entrypoints.worker.type_settings import contract_problems
from app.entrypoints.worker.wiring import started_worker
from app.runtime import service
from app.runtime.notify import Notifier
from app.runtime.service import Process, Work
from app.settings import command_line
from app.settings.worker import WorkerSettings


async def serve(settings: WorkerSettings, release_id: str, notifier: Notifier) -> int:
    """Work until asked to stop; return the exit status.

    READY needs the database: the schema and the written registration. The engine and the external systems may be away.
    """

    @asynccontextmanager
    async def started(process: Process) -> AsyncIterator[Work]:
        async with started_worker(
            settings,
            load(),
            release_id=process.release_id,
            registry=process.registry,
            notifier=process.notifier,
            shutdown=process.shutdown,
            load=process.load,
        ) as loop:
            about = {"group": settings.worker_group, "job_types": list(settings.worker_enabled_types)}
            yield Work(loop.run, "working", about)

    return await service.serve(
        started,
        release_id=release_id,
        notifier=notifier,
        metrics_host=settings.metrics_bind.host,
        metrics_port=settings.metrics_bind.port,
        traces=settings.traces_of("worker"),
        refusals=(SchemaTooOldError, StoreUnavailable),
    )


def problems(settings: WorkerSettings) -> list[str]:
    """Say what in the settings disagrees with the contracts or with what endpoints prove, one line each.

    An endpoint that does not answer is no wrong setting: it has to prove itself before the first call.
    """
    try:
        contracts = load()
        found = environment_problems(settings.app_env, settings.external_environment)
    except ContractError as error:
        return list(error.problems)
    found += contract_problems(settings, contracts)
    return [*found, *asyncio.run(_endpoint_problems(settings, contracts))]


async def _endpoint_problems(settings: WorkerSettings, contracts: Contracts) -> list[str]:
    endpoints = {name: settings.url_of(name) for name in contracts.external_systems}
    async with new_client() as client:
        wrong = await wrong_endpoints(client, endpoints, settings.external_environment)
    return [f"EXTERNAL_ENVIRONMENT: {problem}" for problem in wrong]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker; exit status 78 for settings that are wrong, 1 when a start-up check fails."""
    return command_line.run("worker", WorkerSettings, serve, argv, description=__doc__, problems=problems)


if __name__ == "__main__":
    raise SystemExit(main())
