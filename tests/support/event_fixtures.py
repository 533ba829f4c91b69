"""Fixtures that the relay's and the consumer's integration tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from app.adapters.kafka.administration import declared_access, open_administration
from app.adapters.postgres.pool import Connection
from app.contracts.loader import load_topics, load_units
from tests.support.event_unit import EventUnit
from tests.support.events import make_tenant
from tests.support.kafka import Kafka
from tests.support.services import Services

StartUnit = Callable[..., EventUnit]


@pytest.fixture(scope="session")
def kafka(services: Services) -> Kafka:
    """Kafka with the declared topics and permissions, as a release leaves it."""
    topics, consumer_user = load_topics(), load_units()["consumer"].kafka_user
    assert consumer_user is not None
    with open_administration(Kafka(services).connection("admin")) as cluster:
        cluster.apply(cluster.plan(topics, declared_access(topics, consumer_user), 1), topics, 1)
    return Kafka(services)


@pytest.fixture
async def owner_connection(services: Services, schema: None) -> AsyncIterator[Connection]:  # noqa: ARG001 (after it)
    """A connection that may change every row: for what a fault or an operator would do."""
    connection = await psycopg.AsyncConnection.connect(
        services.database_url("owner"),
        password=services.secret("db_owner_password"),
        autocommit=True,
        row_factory=dict_row,
    )
    async with connection:
        yield connection


@pytest.fixture
async def tenant(admin_connection: Connection, tenant_id: str) -> str:
    """A tenant of the test's own."""
    await make_tenant(admin_connection, tenant_id)
    return tenant_id


@pytest.fixture
async def own_outbox(owner_connection: Connection) -> AsyncIterator[None]:
    """Nothing of other tests waits in the outbox, and nothing of this one stays there or keeps a shard."""
    await _settle(owner_connection)
    yield
    await _settle(owner_connection)


async def _settle(connection: Connection) -> None:
    await connection.execute("UPDATE cpq.outbox_event SET state = 'published' WHERE state <> 'published'")
    await connection.execute("UPDATE cpq.relay_shard_lease SET owner = NULL, expires_at = now()")
    await connection.execute("DELETE FROM cpq.relay_member")


@pytest.fixture
def start_unit(services: Services, tmp_path: Path) -> Iterator[StartUnit]:
    """Starts a relay or a consumer: `start_unit("relay", "relay-1", RELAY_POLL_INTERVAL="PT30S")`."""
    started: list[EventUnit] = []
    units = {
        "relay": {"RELAY_BATCH_SIZE": "50", "RELAY_POLL_INTERVAL": "PT1S", "RELAY_LEASE_DURATION": "PT30S"},
        "consumer": {
            "CONSUMER_GROUP": "order-projection",
            "CONSUMER_BATCH_SIZE": "50",
            "CONSUMER_EXPORT_INTERVAL": "PT1S",
            "STATE_DIRECTORY": str(tmp_path),
        },
    }

    def start(unit: str, instance: str, **settings: str) -> EventUnit:
        process = EventUnit(
            unit,
            {
                "APP_INSTANCE_ID": instance,
                "DB_URL": services.database_url(unit),
                "DB_STATEMENT_TIMEOUT": "PT5S",
                "KAFKA_BOOTSTRAP_SERVERS": services.address("kafka"),
                "KAFKA_USERNAME": unit,
                **units[unit],
                **settings,
            },
            {
                "db-password": services.secret(f"db_{unit}_password"),
                "kafka-password": services.secret(f"kafka_{unit}_password"),
            },
            watchdog_seconds=20,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()


@pytest.fixture
async def own_epochs(owner_connection: Connection) -> AsyncIterator[None]:
    """No role has a colour before the test or after it: other tests' processes have none."""
    await owner_connection.execute("TRUNCATE cpq.role_epoch, cpq.role_process")
    yield
    await owner_connection.execute("TRUNCATE cpq.role_epoch, cpq.role_process")
