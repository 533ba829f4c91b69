"""cpq-oms-relay: publishes committed outbox events to Kafka, in order per aggregate."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from app.adapters.postgres.schema import SchemaTooOldError
from app.entrypoints.relay.wiring import started_relay
from app.messaging.retry import Unavailable
from app.runtime.logging import configure, get_logger
from app.runtime.metrics import MetricsServer, new_registry
from app.runtime.notify import Notifier
from app.runtime.release import installed_release
from app.runtime.shutdown import Shutdown
from app.settings import reader
from app.settings.relay import RelaySettings

_log = get_logger(__name__)


async def serve(settings: RelaySettings, release_id: str, notifier: Notifier) -> int:
    """Relay until asked to stop; return the exit status.

    READY needs the database only. Kafka may be down: events then wait in the outbox, and STATUS says so.
    """
    shutdown = Shutdown.on_signals()
    registry = new_registry()
    metrics_server = MetricsServer(settings.metrics_bind.host, settings.metrics_bind.port, registry)
    try:
        await metrics_server.start()
        async with started_relay(settings, release_id, registry, notifier, shutdown) as relay:
            notifier.ready(relay.status)
            _log.info("ready")
            await relay.run()
            notifier.stopping()
            _log.info("stopping")
    except (OSError, SchemaTooOldError, Unavailable) as error:
        _log.error("start_failed", reason=str(error))
        return 1
    finally:
        await metrics_server.stop()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the relay; exit status 78 for settings that are wrong, 1 when a start-up check fails."""
    parser = argparse.ArgumentParser(prog="cpq-oms-relay", description=__doc__)
    parser.add_argument("--check-config", action="store_true", help="validate the settings and exit 0 or 78")
    arguments = parser.parse_args(argv)
    environ = reader.take_environment()
    status = reader.check(RelaySettings, environ)
    if arguments.check_config or status:
        return status
    settings = reader.read(RelaySettings, environ, reader.credentials_directory(environ))
    release_id = installed_release().release_id
    configure(settings.log_level, "relay", release_id, settings.app_instance_id)
    return asyncio.run(serve(settings, release_id, Notifier.from_environ(environ)))


if __name__ == "__main__":
    raise SystemExit(main())
