"""cpq-oms-consumer: one Kafka consumer group, its inbox and its read model in one transaction."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from app.adapters.postgres.schema import SchemaTooOldError
from app.entrypoints.consumer.wiring import group_problem, started_consumer
from app.messaging.retry import Unavailable
from app.runtime.logging import configure, get_logger
from app.runtime.metrics import MetricsServer, new_registry
from app.runtime.notify import Notifier
from app.runtime.release import installed_release
from app.runtime.shutdown import Shutdown
from app.settings import reader
from app.settings.consumer import ConsumerSettings

_log = get_logger(__name__)


async def serve(settings: ConsumerSettings, release_id: str, notifier: Notifier) -> int:
    """Consume until asked to stop; return the exit status.

    READY needs the database only. Kafka may be down: STATUS then says so, and reading starts when it is back.
    """
    shutdown = Shutdown.on_signals()
    registry = new_registry()
    metrics_server = MetricsServer(settings.metrics_bind.host, settings.metrics_bind.port, registry)
    try:
        await metrics_server.start()
        async with started_consumer(settings, release_id, registry, notifier, shutdown) as run:
            notifier.ready("consuming")
            _log.info("ready", group=settings.consumer_group)
            await run()
            notifier.stopping()
            _log.info("stopping")
    except (OSError, SchemaTooOldError, Unavailable) as error:
        _log.error("start_failed", reason=str(error))
        return 1
    finally:
        await metrics_server.stop()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a consumer; exit status 78 for settings that are wrong, 1 when a start-up check fails."""
    parser = argparse.ArgumentParser(prog="cpq-oms-consumer", description=__doc__)
    parser.add_argument("--check-config", action="store_true", help="validate the settings and exit 0 or 78")
    arguments = parser.parse_args(argv)
    environ = reader.take_environment()
    status = reader.check(ConsumerSettings, environ)
    if status:
        return status
    settings = reader.read(ConsumerSettings, environ, reader.credentials_directory(environ))
    problem = group_problem(settings.consumer_group)
    if problem:
        sys.stderr.write(f"{problem}\n")
        return reader.EXIT_CONFIG
    if arguments.check_config:
        return 0
    release_id = installed_release().release_id
    configure(settings.log_level, "consumer", release_id, settings.app_instance_id)
    return asyncio.run(serve(settings, release_id, Notifier.from_environ(environ)))


if __name__ == "__main__":
    raise SystemExit(main())
