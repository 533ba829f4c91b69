"""Puts a consumer together: the only place of this deployable that knows which technology is behind which port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from app.adapters.files.export_files import DirectoryExportFiles
from app.adapters.kafka.connection import KafkaConnection
from app.adapters.kafka.consumer import KafkaEventSource
from app.adapters.kafka.producer import KafkaEventPublisher
from app.adapters.postgres.audit_export import PostgresExportStore
from app.adapters.postgres.dead_letters import PostgresDeadLetters
from app.adapters.postgres.inbox import PostgresConsumerStore
from app.adapters.postgres.pool import Pool, make_pool, unit_parameters
from app.adapters.postgres.role_epochs import PostgresEpochStore
from app.adapters.postgres.runtime_settings import followed
from app.application.audit_export import AuditExporter
from app.application.reactions import ReactionRule
from app.contracts import loader as contracts
from app.contracts.loader import load_consumer_groups, load_topics
from app.entrypoints.consumer.groups import (
    audit_export,
    billing_trigger,
    notification,
    order_projection,
    reconciliation,
)
from app.entrypoints.consumer.loop import Chore, Consumer, ConsumerGroup, GroupPolicy
from app.messaging.colours import Colour, HeldEpoch, RoleProcess, Standing
from app.messaging.dead_letters import DeadLetterPublisher
from app.messaging.retry import Backoff
from app.runtime.clock import Clock, SystemClock
from app.runtime.ids import UuidV7Ids
from app.runtime.load import LoadMonitor
from app.runtime.logging import set_level
from app.runtime.metrics import ConsumerMetrics, RoleMetrics
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown
from app.settings.consumer import ConsumerSettings
from app.settings.reader import runtime_settings

_PLAIN: Mapping[str, Callable[[], ConsumerGroup[Any]]] = {
    order_projection.NAME: order_projection.group,
    audit_export.NAME: audit_export.group,
    reconciliation.NAME: reconciliation.group,
}
_REACTING: Mapping[str, Callable[[ReactionRule], ConsumerGroup[Any]]] = {
    billing_trigger.NAME: billing_trigger.group,
    notification.NAME: notification.group,
}
GROUPS = frozenset({*_PLAIN, *_REACTING})
_DLQ_PATIENCE = timedelta(seconds=3)
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


def handler_of(group: str, declared: contracts.ConsumerGroup) -> ConsumerGroup[Any]:
    """Return a group's handler, made from its declaration.

    Raises:
        ContractError: a group that reacts has no reaction declared.
    """
    if group in _PLAIN:
        return _PLAIN[group]()
    reaction = declared.reaction
    if reaction is None:
        raise contracts.ContractError([f"consumer_groups.yml: groups.{group}.reaction: missing"])
    return _REACTING[group](ReactionRule(reaction.kind, reaction.external_system, frozenset(reaction.event_types)))


@asynccontextmanager
async def started_consumer(
    settings: ConsumerSettings,
    release_id: str,
    registry: CollectorRegistry,
    notifier: Notifier,
    shutdown: Shutdown,
    *,
    load: LoadMonitor,
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Connect, check, and hand out the loop of a consumer whose start-up checks have passed; on leaving, disconnect.

    Raises:
        Unavailable: the database does not answer.
        SchemaTooOldError: a migration is missing.
    """
    declared = load_consumer_groups()[settings.consumer_group]
    group = handler_of(settings.consumer_group, declared)
    process = RoleProcess(settings.app_instance_id, f"consumer@{group.name}", Colour(settings.app_colour), release_id)
    parameters = unit_parameters(settings, release_id, process.role)
    connection = KafkaConnection.of(settings)
    held = HeldEpoch()
    pool = make_pool(parameters, max_size=_CONNECTIONS, wait=settings.db_statement_timeout, held=lambda: held.epoch)
    load.watch_pool(pool.get_stats)
    runtime = runtime_settings(settings)
    runtime.on_change("LOG_LEVEL", set_level)
    observer = RoleMetrics(registry, process.role, process.colour)
    async with pool, followed(parameters, "consumer", runtime):
        clock, ids = SystemClock(), UuidV7Ids()
        store = PostgresConsumerStore(pool, group.name, ids)
        await store.check_schema()
        publisher = KafkaEventPublisher(connection, clock, _DLQ_PATIENCE)
        topics = load_topics()
        dead_letters = DeadLetterPublisher(
            PostgresDeadLetters(pool, group.name),
            publisher,
            {name: topics[name].dead_letter_payload or "reference" for name in topics_of(group.name)},
            Backoff(initial=1, maximum=60),
        )
        async with Standing(PostgresEpochStore(pool), process, held, clock, observer) as standing:
            consumer = Consumer(
                group=group,
                policy=GroupPolicy(
                    max_attempts=declared.max_attempts,
                    backoff=Backoff(declared.retry_backoff.total_seconds(), declared.max_retry_backoff.total_seconds()),
                    dead_letter_limit=declared.dead_letter_limit,
                    dead_letter_window=declared.dead_letter_window,
                ),
                store=store,
                standing=standing,
                publish_dead_letters=dead_letters.run,
                chores=_chores(settings, pool, clock),
                ids=ids,
                shutdown=shutdown,
                metrics=ConsumerMetrics(registry, group.name),
                notifier=notifier,
                clock=clock,
                halt_backoff=Backoff(initial=1, maximum=60),
                outage_backoff=Backoff(initial=0.5, maximum=10),
            )
            source = KafkaEventSource(
                connection,
                group=group.name,
                member=_member(settings),
                topics=topics_of(group.name),
                batch_size=settings.consumer_batch_size,
                load_positions=consumer.load_positions,
            )
            try:
                yield lambda: consumer.run(source)
            finally:
                await source.close()
                await publisher.close()


def _member(settings: ConsumerSettings) -> str | None:
    """The name under which Kafka keeps a member's partitions over a restart; those of a colour are wanted by another one at once."""
    # Kafka allows no @ in it; unit instances have one.
    return settings.app_instance_id.replace("@", "-") if settings.app_colour == "none" else None


def _chores(settings: ConsumerSettings, pool: Pool, clock: Clock) -> list[Chore]:
    """What the group does between two polls."""
    if settings.consumer_group != audit_export.NAME:
        return []
    exporter = AuditExporter(
        PostgresExportStore(pool, settings.app_instance_id),
        DirectoryExportFiles(Path(settings.state_directory)),
        clock,
        settings.consumer_export_interval,
    )
    return [exporter.run]
