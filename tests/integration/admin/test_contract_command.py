"""`migrate contract` on the platform's own services: what a topic and Redis still have is named, and refused it changes nothing."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from redis.asyncio import Redis

from app.adapters.postgres.live_state import LiveDatabase
from app.adapters.postgres.pool import Connection
from app.adapters.redis.connection import connect
from app.application.contract_phase import SpeakerKind, Speech, speakers
from app.application.release_plan.described import Migration, migration
from app.entrypoints.admin.commands.migrate.contract import listen
from app.entrypoints.admin.wiring import Session
from app.messaging.inbox import Partition, Record
from tests.support.kafka import Kafka
from tests.support.migration_database import MIGRATIONS, add, folder
from tests.support.operator import Operator
from tests.support.services import Services

__all__ = ["folder"]

OWN = "cpq-oms-2026.11.29-101"
NAME = "9000_contract_probe"


def taking(*forms: str) -> Migration:
    return migration(NAME, "".join(f"-- removes: {form}\n" for form in forms), "sha")


async def said(operator: Operator, contract: Migration, kind: SpeakerKind) -> list[str]:
    """Who of one kind is named; sessions and workers of the host are of other releases, and always are."""
    speech: Speech = await listen(operator.session(), [contract])
    return [one.who for one in speakers(contract, OWN, 2, speech) if one.kind is kind]


@pytest.fixture
async def topic(kafka: Kafka) -> AsyncIterator[str]:
    """A topic of the test's own."""
    name = f"probe.{uuid.uuid4().hex[:12]}.v1"

    cluster = await asyncio.to_thread(lambda: KafkaAdminClient(**kafka.connection("admin").options()))
    await asyncio.to_thread(cluster.create_topics, [NewTopic(name, num_partitions=2, replication_factor=1)])
    yield name
    await asyncio.to_thread(cluster.delete_topics, [name])
    cluster.close()


@pytest.mark.usefixtures("schema")
async def test_records_that_a_topic_still_has_are_counted_and_groups_behind_them_named(
    operator: Operator, kafka: Kafka, topic: str, owner_connection: Connection
) -> None:
    contract = taking(f"topic {topic}")
    assert await said(operator, contract, SpeakerKind.RECORD) == []

    records = [Record(Partition(topic, number % 2), 0, None, b"{}", ()) for number in range(3)]
    await asyncio.to_thread(kafka.write, records)
    place = ("probe-group", topic, 0, 1)
    await owner_connection.execute("INSERT INTO cpq.consumer_offset VALUES (%s, %s, %s, %s)", place)
    try:
        named = await said(operator, contract, SpeakerKind.RECORD)
    finally:
        await owner_connection.execute("DELETE FROM cpq.consumer_offset WHERE topic = %s", (topic,))

    assert named == [f"of topic {topic}, 3 retained, probe-group is 1 behind"]


@pytest.fixture
async def redis(services: Services) -> AsyncIterator[Redis]:
    """A connection of the operators' user."""
    client = connect(f"redis://admin@{services.address('redis')}/0", services.secret("redis_admin_password"), "", 3.0)
    yield client
    await client.aclose()


@pytest.mark.usefixtures("schema")
async def test_values_of_the_old_form_in_redis_are_counted_and_named(
    operator: Operator, services: Services, redis: Redis, tenant_id: str
) -> None:
    contract = taking("redis-value catalog_offering 1")
    keys = [f"{services.environment}:{tenant_id}:catalog:1:offering:probe-{number}" for number in range(2)]
    assert not [each for each in await said(operator, contract, SpeakerKind.REDIS) if tenant_id in each]

    for number, key in enumerate(keys, 1):
        await redis.set(key, json.dumps({"value_version": number}), ex=60)
    try:
        [named] = await said(operator, contract, SpeakerKind.REDIS)
    finally:
        await redis.delete(*keys)

    assert keys[0] in named
    assert keys[1] not in named


async def test_refused_it_changes_nothing_and_names_the_migration(
    operator: Operator,
    admin_connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> None:
    """The generation of this checkout is not beyond the one that the head names."""
    head = "-- replaced-by: 0014_expand_configuration\n-- removes: table cpq.feature_flag\n-- last-needed-by: generation 1000\n"
    add(folder, NAME, f"{head}SET lock_timeout = '1s';\nDROP TABLE cpq.feature_flag;")
    bundled = Session.bundled
    monkeypatch.setattr(Session, "bundled", lambda self, name: folder if name == "migrations" else bundled(self, name))
    before = await LiveDatabase(admin_connection).applied_migrations()

    for words in (("migrate", "contract", "--plan"), ("migrate", "contract")):
        outcome = await operator.run(*words)

        assert outcome.exit_code == 1
        assert any(each.startswith(f"{NAME}: this release ") for each in outcome.problems)
        assert outcome.data["contracts"] == [NAME]
    assert await LiveDatabase(admin_connection).applied_migrations() == before


@pytest.mark.skipif(any(MIGRATIONS.glob("*_contract_*.sql")), reason="this checkout has a contract migration")
async def test_without_a_contract_migration_there_is_nothing_to_ask(operator: Operator) -> None:
    outcome = await operator.run("migrate", "contract")

    assert (outcome.exit_code, outcome.changes, outcome.problems) == (0, (), ())
