"""Puts a consumer together: the only place of this deployable that knows which technology is behind which port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from app.adapters.kafka.connection import KafkaConnection
from app.adapters.kafka.consumer import KafkaEventSource
from app.adapters.postgres.inbox import PostgresConsumerStore
from app.adapters.postgres.pool import connection_parameters, make_pool
from app.adapters.postgres.runtime_settings import followed
from app.contracts.loader import load_topics
from app.entrypoints.consumer.groups import order_projection
from app.entrypoints.consumer.loop import Consumer, ConsumerGroup
from app.messaging.retry import Backoff
from app.runtime.clock import SystemClock
from app.runtime.logging import set_level
from app.runtime.metrics import ConsumerMetrics
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown
from app.settings.consumer import ConsumerSettings
from app.settings.reader import runtime_settings

GROUPS: dict[str, ConsumerGroup[Any]] = {group.name: group for group in (order_projection.GROUP,)}
# One works, one answers for positions while partitions are assigned.
_CONNECTIONS = 2


def topics_of(group: str) -> list[str]:
    """Return the topics that declare the group in contracts/topics."""
    return [topic.name for topic in load_topics().values() if group in topic.consumer_groups]


def group_problem(group: str) -> str | None:
    """Say what is wrong with CONSUMER_GROUP: a group needs code here and a topic that declares it."""
    if group not in GROUPS:
        return f"CONSUMER_GROUP: {group!r} is none of {', '.join(sorted(GROUPS))}"
    return None if topics_of(group) else f"CONSUMER_GROUP: no topic declares {group!r}"


@asynccontextmanager
async def started_consumer(
    settings: ConsumerSettings, release_id: str, registry: CollectorRegistry, notifier: Notifier, shutdown: Shutdown
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Connect, check, and hand out the loop of a consumer whose start-up checks have passed; on leaving, disconnect.

    Raises:
        Unavailable: the database does not answer.
        SchemaTooOldError: a migration is missing.
    """
    group = GROUPS[settings.consumer_group]
    parameters = connection_parameters(
        settings.db_url,
        settings.db_password.get_secret_value(),
        application_name=f"{settings.app_instance_id}/{release_id}",
        statement_timeout=settings.db_statement_timeout,
    )
    connection = KafkaConnection(
        bootstrap_servers=[str(address) for address in settings.kafka_bootstrap_servers],
        username=settings.kafka_username,
        password=settings.kafka_password.get_secret_value(),
        client_id=settings.app_instance_id,
    )
    pool = make_pool(parameters, max_size=_CONNECTIONS, wait=settings.db_statement_timeout)
    runtime = runtime_settings(settings)
    runtime.on_change("LOG_LEVEL", set_level)
    async with pool, followed(parameters, "consumer", runtime):
        store = PostgresConsumerStore(pool, group.name)
        await store.check_schema()
        consumer = Consumer(
            group=group,
            store=store,
            shutdown=shutdown,
            metrics=ConsumerMetrics(registry, group.name),
            notifier=notifier,
            clock=SystemClock(),
            halt_backoff=Backoff(initial=1, maximum=60),
            outage_backoff=Backoff(initial=0.5, maximum=10),
        )
        source = KafkaEventSource(
            connection,
            group=group.name,
            # Kafka allows no @ in a member's name; unit instances have one.
            member=settings.app_instance_id.replace("@", "-"),
            topics=topics_of(group.name),
            batch_size=settings.consumer_batch_size,
            load_positions=consumer.load_positions,
        )
        try:
            yield lambda: consumer.run(source)
        finally:
            await source.close()
