"""cpq-oms-worker: one group of workers, either a starter of processes or servers of job types."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from app.adapters.postgres.schema import SchemaTooOldError
from app.application.ports import StoreUnavailable
from app.contracts.loader import ContractError, Contracts, load
from app.entrypoints.worker.wiring import contract_problems, started_worker
from app.runtime.logging import configure, get_logger
from app.runtime.metrics import MetricsServer, new_registry
from app.runtime.notify import Notifier
from app.runtime.release import installed_release
from app.runtime.shutdown import Shutdown
from app.settings import reader
from app.settings.worker import WorkerSettings

log = get_logger(__name__)


async def serve(settings: WorkerSettings, contracts: Contracts, release_id: str, notifier: Notifier) -> int:
    """Work until asked to stop; return the exit status.

    READY needs the database: the schema and the written registration. The engine and the external systems may be away.
    """
    shutdown = Shutdown.on_signals()
    registry = new_registry()
    metrics_server = MetricsServer(settings.metrics_bind.host, settings.metrics_bind.port, registry)
    try:
        await metrics_server.start()
        async with started_worker(
            settings, contracts, release_id=release_id, registry=registry, notifier=notifier, shutdown=shutdown
        ) as loop:
            notifier.ready("working")
            log.info("ready", group=settings.worker_group, job_types=list(settings.worker_enabled_types))
            await loop.run()
            log.info("stopping")
    except (OSError, SchemaTooOldError, StoreUnavailable) as error:
        log.error("start failed", error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    finally:
        await metrics_server.stop()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker; exit status 78 for settings that are wrong, 1 when a start-up check fails."""
    parser = argparse.ArgumentParser(prog="cpq-oms-worker", description=__doc__)
    parser.add_argument("--check-config", action="store_true", help="validate the settings and exit 0 or 78")
    arguments = parser.parse_args(argv)
    environ = reader.take_environment()
    status = reader.check(WorkerSettings, environ)
    if status:
        return status
    settings = reader.read(WorkerSettings, environ, reader.credentials_directory(environ))
    try:
        contracts = load()
        problems = contract_problems(settings, contracts)
    except ContractError as error:
        problems = list(error.problems)
    if problems:
        sys.stderr.writelines(problem + "\n" for problem in problems)
        return reader.EXIT_CONFIG
    if arguments.check_config:
        return 0
    release_id = installed_release().release_id
    configure(settings.log_level, "worker", release_id, settings.app_instance_id)
    return asyncio.run(serve(settings, contracts, release_id, Notifier.from_environ(environ)))


if __name__ == "__main__":
    raise SystemExit(main())
