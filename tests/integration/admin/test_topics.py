"""The contract of topics against a real broker: differences found, repaired where that is safe, refused by name where not."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from app.adapters.kafka.administration import (
    Access,
    KafkaAdministration,
    TopicsPlan,
    TopicsRefusedError,
    declared_access,
)
from app.adapters.postgres.pool import Connection
from app.contracts.loader import Topic, load_topics
from app.entrypoints.admin.wiring import Session
from tests.support.consumers import record
from tests.support.events import order_event
from tests.support.kafka import Kafka
from tests.support.operator import Operator

DAY_MS = 86_400_000
CONSUMER = "consumer"


class Cluster:
    """The cluster with the declared topics and one of the test's own beside them."""

    def __init__(self, client: KafkaAdminClient, topic: Topic) -> None:
        self.client = client
        self.administration = KafkaAdministration(client)
        self.topic = topic

    def topics(self, topic: Topic | None = None) -> dict[str, Topic]:
        mine = topic or self.topic
        return {**load_topics(), mine.name: mine}

    def compare(self, topic: Topic | None = None) -> TopicsPlan:
        topics = self.topics(topic)
        return self.administration.compare(topics, declared_access(topics, CONSUMER), 1)

    def plan(self, topic: Topic | None = None) -> TopicsPlan:
        topics = self.topics(topic)
        return self.administration.plan(topics, declared_access(topics, CONSUMER), 1, may_grow=True)

    def apply(self, topic: Topic | None = None) -> None:
        self.administration.apply(self.plan(topic), self.topics(topic), 1)

    def set(self, **settings: str) -> None:
        named = {key.replace("_", "."): value for key, value in settings.items()}
        self.client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, self.topic.name, named)])

    def settles(self, changes: list[str]) -> None:
        """Metadata of a change reaches a broker a moment after the change is acknowledged."""
        deadline = time.monotonic() + 10
        while (found := self.compare()).changes != changes:
            assert time.monotonic() < deadline, found.changes
            time.sleep(0.1)


@pytest.fixture
def cluster(kafka: Kafka) -> Iterator[Cluster]:
    declared = load_topics()["oms.order.events.v1"]
    topic = declared.model_copy(update={"name": f"test.order{uuid.uuid4().hex[:8]}.events.v1", "partitions": 2})
    client = KafkaAdminClient(**kafka.connection("admin").options())
    found = Cluster(client, topic)
    try:
        found.apply()
        found.settles([])
        yield found
    finally:
        present = {known["name"] for known in client.describe_topics()}
        topics = load_topics()
        administration = found.administration
        administration.apply(administration.compare(topics, declared_access(topics, CONSUMER), 1), topics, 1)
        client.delete_topics([name for name in present if name.startswith("test.order")])
        client.delete_acls([_acl_filter(access) for access in _strangers(administration)])
        client.close()


def _strangers(administration: KafkaAdministration) -> list[Access]:
    return [access for access in administration._access() if access.user.startswith("stranger")]


def _acl_filter(access: Access) -> Any:
    from app.adapters.kafka.administration import _filter  # noqa: PLC0415

    return _filter(access)


def give(cluster: Cluster, access: Access) -> None:
    cluster.administration.apply(TopicsPlan(give=(access,)), {}, 1)


def test_a_topic_is_made_once_with_all_that_is_declared(cluster: Cluster) -> None:
    [made] = cluster.client.describe_topics([cluster.topic.name])
    settings = cluster.administration._settings([cluster.topic.name])[cluster.topic.name]

    assert len(made["partitions"]) == 2
    assert {key: settings[key]["value"] for key in ("retention.ms", "cleanup.policy", "min.insync.replicas")} == {
        "retention.ms": "2592000000",
        "cleanup.policy": "delete",
        "min.insync.replicas": "1",
    }
    assert cluster.compare().refused == ()


def test_what_was_altered_by_hand_is_a_difference_and_is_repaired(cluster: Cluster) -> None:
    name = cluster.topic.name
    cluster.set(retention_ms=str(DAY_MS), cleanup_policy="compact", retention_bytes="1024")
    altered = [
        f"set retention.ms=2592000000 on {name}",
        f"set cleanup.policy=delete on {name}",
        f"reset retention.bytes on {name} to the broker's default",
    ]
    cluster.settles(altered)

    cluster.apply()

    cluster.settles([])


def test_partitions_grow_and_never_shrink(cluster: Cluster) -> None:
    name = cluster.topic.name
    cluster.apply(cluster.topic.model_copy(update={"partitions": 3}))
    [grown] = cluster.client.describe_topics([name])
    assert len(grown["partitions"]) == 3

    with pytest.raises(
        TopicsRefusedError, match=f"{name} has 3 partitions, declared are 2: a partition is never removed"
    ):
        cluster.plan()


async def test_a_keyed_topic_grows_only_on_an_operators_word_and_while_nothing_is_on_its_way(
    *,
    cluster: Cluster,
    kafka: Kafka,
    operator: Operator,
    owner_connection: Connection,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = cluster.topic.name
    wider = cluster.topic.model_copy(update={"partitions": 3, "consumer_groups": ["order-projection"]})
    monkeypatch.setattr(Session, "kafka_contract", lambda _: (cluster.topics(wider), CONSUMER))
    await asyncio.to_thread(kafka.write, [record(order_event(tenant, uuid.uuid4(), 1, topic=name))])

    for words in (("topics", "plan"), ("topics", "apply")):
        [problem] = (await operator.run(*words)).problems
        assert problem.startswith(f"{name} has fewer than the declared 3 partitions: ")

    await owner_connection.execute(
        "INSERT INTO cpq.relay_member (owner, expires_at) VALUES ('test-relay', now() + interval '1 minute')"
    )
    try:
        refused = await operator.run("topics", "apply", "--grow")
    finally:
        await owner_connection.execute("DELETE FROM cpq.relay_member WHERE owner = 'test-relay'")
    assert list(refused.problems) == [
        "relay test-relay lives; stop it first",
        f"order-projection has 1 events of {name}[0] to read",
    ]
    assert len(cluster.client.describe_topics([name])[0]["partitions"]) == 2

    await owner_connection.execute(
        "INSERT INTO cpq.consumer_offset (consumer_group, topic, kafka_partition, next_offset) "
        "VALUES ('order-projection', %s, 0, 1)",
        (name,),
    )
    try:
        assert f"raise {name} to 3 partitions" in (await operator.run("topics", "apply", "--grow")).changes
    finally:
        await owner_connection.execute("DELETE FROM cpq.consumer_offset WHERE topic = %s", (name,))
    assert len(cluster.client.describe_topics([name])[0]["partitions"]) == 3


@pytest.mark.parametrize("retention_ms", [31 * DAY_MS, -1])
def test_a_retention_is_never_shortened(cluster: Cluster, retention_ms: int) -> None:
    name = cluster.topic.name
    cluster.set(retention_ms=str(retention_ms))
    cluster.settles([f"set retention.ms=2592000000 on {name}"])

    with pytest.raises(TopicsRefusedError, match=f"{name} has retention.ms={retention_ms}, declared is 2592000000"):
        cluster.apply()

    assert cluster.administration._settings([name])[name]["retention.ms"]["value"] == str(retention_ms)
    cluster.set(retention_ms=str(cluster.topic.retention_ms))


def test_another_number_of_copies_is_named(cluster: Cluster) -> None:
    topics = cluster.topics()

    found = cluster.administration.compare(topics, declared_access(topics, CONSUMER), 3)

    assert f"{cluster.topic.name} has replication factor 1, declared is 3 for 3 brokers" in "\n".join(found.refused)


def test_access_that_is_missing_or_surplus_is_a_difference_in_either_direction(cluster: Cluster) -> None:
    name = cluster.topic.name
    surplus = [
        Access("consumer", "READ", "TOPIC", name, permission="DENY"),
        Access("relay", "DELETE", "TOPIC", name),
        Access("stranger", "READ", "TOPIC", "*"),
        Access("stranger", "READ", "TOPIC", name),
        Access("stranger", "WRITE", "TOPIC", "test.order", pattern="PREFIXED"),
    ]
    for access in surplus:
        give(cluster, access)
    give(cluster, Access("stranger", "READ", "TOPIC", "analytics.of.others"))
    cluster.administration.apply(TopicsPlan(take=(Access("relay", "WRITE", "TOPIC", name),)), {}, 1)
    cluster.settles([f"allow relay: WRITE on topic {name}", *(f"withdraw {access}" for access in sorted(surplus))])

    cluster.apply()

    cluster.settles([])
    assert _strangers(cluster.administration) == [Access("stranger", "READ", "TOPIC", "analytics.of.others")]


def test_a_topic_that_is_not_declared_is_shown_and_left_alone(cluster: Cluster) -> None:
    topics = load_topics()

    found = cluster.administration.compare(topics, declared_access(topics, CONSUMER), 1)

    assert cluster.topic.name in found.undeclared
    assert not any("delete" in line for line in found.changes)


def test_the_running_brokers_create_no_topic_by_themselves(cluster: Cluster) -> None:
    assert cluster.administration._broker_problems() == []


def test_a_broker_that_creates_topics_by_itself_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is read-only while the broker runs, so its answer is altered on the way."""
    describe = cluster.client.describe_configs

    def altered(resources: list[ConfigResource], **options: Any) -> Any:
        described = describe(resources, **options)
        for settings in described.get("broker", {}).values():
            settings["auto.create.topics.enable"]["value"] = "true"
        return described

    monkeypatch.setattr(cluster.client, "describe_configs", altered)

    with pytest.raises(TopicsRefusedError, match=r"broker 1: auto\.create\.topics\.enable is true"):
        cluster.plan()


@pytest.fixture
def letters(kafka: Kafka) -> Iterator[Cluster]:
    """The cluster as declared, with the topic of dead letters in hand: it may lack or lose records for a moment."""
    client = KafkaAdminClient(**kafka.connection("admin").options())
    found = Cluster(client, load_topics()["oms.order.events.v1.dlq"])
    try:
        yield found
    finally:
        found.set(retention_ms=str(found.topic.retention_ms))
        client.close()


async def test_commands_answer_drift_with_3_and_refusals_with_1(operator: Operator, letters: Cluster) -> None:
    name, declared = letters.topic.name, letters.topic.retention_ms
    repair = f"set retention.ms={declared} on {name}"
    assert (await operator.run("topics", "plan", "--brokers", "1")).exit_code == 0

    letters.set(retention_ms=str(declared + DAY_MS))
    letters.settles([repair])
    longer = [await operator.run("topics", verb, "--brokers", "1") for verb in ("plan", "apply", "diff")]
    assert [outcome.exit_code for outcome in longer] == [1, 1, 3]
    assert all(f"{name} has retention.ms={declared + DAY_MS}" in outcome.problems[0] for outcome in longer[:2])

    letters.set(retention_ms=str(declared - DAY_MS))
    for _ in range(50):
        if not letters.compare().refused:  # until then the broker still shows the setting of before
            break
    shorter = await operator.run("topics", "plan", "--brokers", "1")
    assert (shorter.exit_code, list(shorter.changes)) == (3, [repair])
    repaired = await operator.run("topics", "apply", "--brokers", "1")
    assert (repaired.exit_code, repaired.changed) == (0, True)
    letters.settles([])
    assert (await operator.run("topics", "plan", "--brokers", "1")).exit_code == 0
