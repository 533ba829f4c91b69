"""cpq-oms-relay: publishes committed outbox events to Kafka, in order per aggregate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.adapters.postgres.schema import SchemaTooOldError
from app.entrypoints.relay.wiring import started_relay
from app.messaging.retry import Unavailable
from app.runtime import service
from app.runtime.notify import Notifier
from app.runtime.service import Process, Work
from app.settings import command_line
from app.settings.relay import RelaySettings


async def serve(settings: RelaySettings, release_id: str, notifier: Notifier) -> int:
    """Relay until asked to stop; return the exit status.

    READY needs the database only. Kafka may be down: events then wait in the outbox, and STATUS says so.
    """

    @asynccontextmanager
    async def started(process: Process) -> AsyncIterator[Work]:
        async with started_relay(
            settings, process.release_id, process.registry, process.notifier, process.shutdown, load=process.load
        ) as relay:
            yield Work(relay.run, relay.status)

    return await service.serve(
        started,
        release_id=release_id,
        notifier=notifier,
        metrics_host=settings.metrics_bind.host,
        metrics_port=settings.metrics_bind.port,
        traces=settings.traces_of("relay"),
        refusals=(SchemaTooOldError, Unavailable),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the relay; exit status 78 for settings that are wrong, 1 when a start-up check fails."""
    return command_line.run("relay", RelaySettings, serve, argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
