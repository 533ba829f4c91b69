"""cpq-oms-consumer: one Kafka consumer group, its inbox and its read model in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.adapters.postgres.schema import SchemaTooOldError
from app.entrypoints.consumer.wiring import group_problem, started_consumer
from app.messaging.retry import Unavailable
from app.runtime import service
from app.runtime.notify import Notifier
from app.runtime.service import Process, Work
from app.settings import command_line
from app.settings.consumer import ConsumerSettings


async def serve(settings: ConsumerSettings, release_id: str, notifier: Notifier) -> int:
    """Consume until asked to stop; return the exit status.

    READY needs the database only. Kafka may be down: STATUS then says so, and reading starts when it is back.
    """

    @asynccontextmanager
    async def started(process: Process) -> AsyncIterator[Work]:
        async with started_consumer(
            settings, process.release_id, process.registry, process.notifier, process.shutdown, load=process.load
        ) as run:
            yield Work(run, "consuming", {"group": settings.consumer_group})

    return await service.serve(
        started,
        release_id=release_id,
        notifier=notifier,
        metrics_host=settings.metrics_bind.host,
        metrics_port=settings.metrics_bind.port,
        traces=settings.traces_of("consumer"),
        refusals=(SchemaTooOldError, Unavailable),
    )


def problems(settings: ConsumerSettings) -> list[str]:
    """Say whether this code and the topics know the group."""
    problem = group_problem(settings.consumer_group)
    return [problem] if problem else []


def main(argv: Sequence[str] | None = None) -> int:
    """Run a consumer; exit status 78 for settings that are wrong, 1 when a start-up check fails."""
    return command_line.run("consumer", ConsumerSettings, serve, argv, description=__doc__, problems=problems)


if __name__ == "__main__":
    raise SystemExit(main())
