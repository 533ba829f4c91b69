"""The relay as a process between a real database and a real broker."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from app.adapters.kafka.producer import KafkaEventPublisher
from app.adapters.postgres.pool import Connection
from app.messaging import cloudevents
from app.messaging.inbox import Record
from app.messaging.outbox import Published, Rejected, Undelivered
from app.messaging.retry import Unavailable
from app.runtime.clock import SystemClock
from tests.integration.conftest import OpenPool
from tests.support.event_fixtures import StartUnit
from tests.support.events import TOPIC, commit_events, insert_silently, order_event
from tests.support.kafka import Kafka
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("own_outbox")


async def unpublished(connection: Connection, tenant: str) -> int:
    cursor = await connection.execute(
        "SELECT count(*) AS events FROM cpq.outbox_event WHERE tenant_id = %s AND state <> 'published'", (tenant,)
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["events"])


async def all_published(connection: Connection, tenant: str, seconds: float = 30) -> None:
    async def done() -> bool:
        return await unpublished(connection, tenant) == 0

    await eventually(done, "every event of the tenant is published", seconds)


async def of_tenant(kafka: Kafka, tenant: str) -> list[Record]:
    records = await asyncio.to_thread(kafka.records, TOPIC)
    return [record for record in records if cloudevents.decode(record.headers).tenant_id == tenant]


def sequences(records: list[Record]) -> dict[UUID, list[int]]:
    """Per aggregate the sequences in the order of their first appearance in the topic."""
    seen: dict[UUID, list[int]] = defaultdict(list)
    for record in records:
        sequence = cloudevents.decode(record.headers).sequence
        order = UUID((record.key or b"").decode())
        if sequence not in seen[order]:
            seen[order].append(sequence)
    return seen


async def test_a_committed_event_is_in_the_topic_at_once_with_its_headers_and_marked_with_its_place(
    open_pool: OpenPool, kafka: Kafka, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    relay = start_unit("relay", "relay-1", RELAY_POLL_INTERVAL="PT30S").wait_ready()
    event = order_event(tenant, uuid.uuid4(), 1)
    # The first send of a process also fetches metadata.
    await commit_events(await open_pool("api"), tenant, [order_event(tenant, uuid.uuid4(), 1)])
    await all_published(admin_connection, tenant)

    await commit_events(await open_pool("api"), tenant, [event])
    await all_published(admin_connection, tenant, seconds=5)  # by notification: the next poll is 30 s away

    [record] = [item for item in await of_tenant(kafka, tenant) if item.key == event.partition_key.encode()]
    row = await (
        await admin_connection.execute("SELECT * FROM cpq.outbox_event WHERE event_id = %s", (event.event_id,))
    ).fetchone()
    assert row is not None
    assert list(record.headers) == cloudevents.encode(event)
    assert record.value == event.payload.encode()
    assert (row["kafka_partition"], row["kafka_offset"]) == (record.partition.number, record.offset)
    assert relay.metric("cpq_relay_published_total") == 2
    assert relay.stop() == 0


async def test_sigterm_under_a_stream_loses_and_repeats_nothing(
    open_pool: OpenPool, kafka: Kafka, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    api = await open_pool("api")
    orders = [uuid.uuid4() for _ in range(60)]

    async def stream() -> None:
        for seq in (1, 2, 3):
            for order in orders:
                await commit_events(api, tenant, [order_event(tenant, order, seq)])
                await asyncio.sleep(0.01)

    streaming = asyncio.create_task(stream())
    for start in range(3):
        relay = start_unit("relay", "relay-1")
        await asyncio.to_thread(relay.wait_ready)
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(relay.stop) == 0, start
    await streaming
    await asyncio.to_thread(start_unit("relay", "relay-1").wait_ready)
    await all_published(admin_connection, tenant)

    records = await of_tenant(kafka, tenant)
    assert len(records) == 180
    assert sequences(records) == {order: [1, 2, 3] for order in orders}


async def test_a_kill_between_acknowledgement_and_mark_repeats_the_event_unchanged(
    open_pool: OpenPool,
    kafka: Kafka,
    start_unit: StartUnit,
    owner_connection: Connection,
    tenant: str,
) -> None:
    event = order_event(tenant, uuid.uuid4(), 1)
    await commit_events(await open_pool("api"), tenant, [event])

    async def arrived() -> bool:
        return len(await of_tenant(kafka, tenant)) == 1

    async with owner_connection.transaction():
        # The mark has to wait for this row; the claim before it does not.
        await owner_connection.execute(
            "SELECT 1 FROM cpq.outbox_event WHERE event_id = %s FOR UPDATE", (event.event_id,)
        )
        relay = start_unit("relay", "relay-1")
        await eventually(arrived, "the event is in the topic")
        relay.kill()
    assert await unpublished(owner_connection, tenant) == 1

    await asyncio.to_thread(start_unit("relay", "relay-1").wait_ready)
    await all_published(owner_connection, tenant)

    first, second = await of_tenant(kafka, tenant)
    assert (first.value, first.headers) == (second.value, second.headers)


async def test_an_event_without_notification_is_found_by_polling(
    start_unit: StartUnit, owner_connection: Connection, tenant: str
) -> None:
    relay = start_unit("relay", "relay-1").wait_ready()

    await insert_silently(owner_connection, order_event(tenant, uuid.uuid4(), 1))

    await all_published(owner_connection, tenant)
    assert relay.metric("cpq_relay_published_total") == 1


async def test_a_listener_whose_session_was_ended_listens_again(
    open_pool: OpenPool, start_unit: StartUnit, owner_connection: Connection, tenant: str
) -> None:
    start_unit("relay", "relay-1", RELAY_POLL_INTERVAL="PT1M", RELAY_LEASE_DURATION="PT10M").wait_ready()
    listening = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%%LISTEN outbox%%' AND pid <> pg_backend_pid()"
    async with (await open_pool("relay")).connection() as same_role:

        async def listens(*, besides: int) -> int | None:
            row = await (await same_role.execute(f"{listening} AND pid <> %s", (besides,))).fetchone()
            return None if row is None else int(row["pid"])

        async def first_listens() -> bool:
            return await listens(besides=0) is not None

        await eventually(first_listens, "the relay listens")
        pid = await listens(besides=0)
        assert pid is not None
        await same_role.execute("SELECT pg_terminate_backend(%s)", (pid,))

        async def listens_again() -> bool:
            return await listens(besides=pid) is not None

        await eventually(listens_again, "the relay listens on another session")

    await commit_events(await open_pool("api"), tenant, [order_event(tenant, uuid.uuid4(), 1)])
    await all_published(owner_connection, tenant)  # by notification: the next poll comes later than anybody waits here


async def test_a_poison_event_parks_its_own_aggregate_and_no_other(
    open_pool: OpenPool, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    api, oversize, malformed, sound = await open_pool("api"), uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    relay = start_unit("relay", "relay-1").wait_ready()
    await commit_events(api, tenant, [order_event(tenant, oversize, 1, padding=2_000_000)])
    await commit_events(api, tenant, [replace(order_event(tenant, malformed, 1), payload='{"state": "secret"}')])
    for poisoned in (oversize, malformed):
        await commit_events(api, tenant, [order_event(tenant, poisoned, 2)])
    await commit_events(api, tenant, [order_event(tenant, sound, seq) for seq in (1, 2, 3)])

    async def only_the_poisoned_wait() -> bool:
        return await unpublished(admin_connection, tenant) == 4

    await eventually(only_the_poisoned_wait, "the sound aggregate is published")

    for poisoned, reason in ((oversize, "MessageSizeTooLarge"), (malformed, "does not fit its schema")):
        cursor = await admin_connection.execute(
            "SELECT state, last_error FROM cpq.outbox_event WHERE aggregate_id = %s ORDER BY aggregate_seq", (poisoned,)
        )
        parked, waiting = await cursor.fetchall()
        assert (parked["state"], waiting["state"]) == ("parked", "pending")
        assert reason in parked["last_error"]
        assert "secret" not in parked["last_error"]
    assert relay.metric("cpq_relay_parked_total") == 2

    async def shown() -> bool:
        return "2 aggregates wait behind a parked event" in relay.status

    await eventually(shown, "STATUS tells of it")
    assert relay.metric("cpq_outbox_parked_aggregates") == 2


async def test_a_missing_topic_delays_its_own_events_only(
    open_pool: OpenPool, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    api = await open_pool("api")
    await commit_events(api, tenant, [order_event(tenant, uuid.uuid4(), 1, topic="oms.nothing.events.v1")])
    relay = start_unit("relay", "relay-1").wait_ready()
    await commit_events(api, tenant, [order_event(tenant, uuid.uuid4(), 1)])

    async def one_left() -> bool:
        return await unpublished(admin_connection, tenant) == 1

    await eventually(one_left, "the event of the topic that exists is published")

    cursor = await admin_connection.execute(
        "SELECT state, attempts, last_error FROM cpq.outbox_event WHERE tenant_id = %s AND state <> 'published'",
        (tenant,),
    )
    row = await cursor.fetchone()
    assert row is not None
    assert row["state"] == "pending"
    assert row["attempts"] >= 1
    assert relay.is_running


async def test_without_kafka_the_relay_is_ready_waits_and_says_so(
    open_pool: OpenPool, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    await commit_events(await open_pool("api"), tenant, [order_event(tenant, uuid.uuid4(), 1)])
    relay = start_unit("relay", "relay-1", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1").wait_ready()

    async def says_so() -> bool:
        return "kafka:" in relay.status and relay.metric("cpq_relay_publish_failures_total") >= 2

    await eventually(says_so, "STATUS names Kafka")
    assert relay.metric("cpq_outbox_backlog") >= 1
    assert relay.metric("cpq_outbox_oldest_age_seconds") > 0
    cursor = await admin_connection.execute("SELECT attempts FROM cpq.outbox_event WHERE tenant_id = %s", (tenant,))
    assert await cursor.fetchall() == [{"attempts": 0}]  # an outage is no failure of the event
    assert relay.stop() == 0

    start_unit("relay", "relay-1").wait_ready()
    await all_published(admin_connection, tenant)


async def test_an_idle_relay_feeds_its_watchdog_and_writes_only_json(start_unit: StartUnit) -> None:
    relay = start_unit("relay", "relay-1", RELAY_POLL_INTERVAL="PT0.2S").wait_ready()

    async def fed() -> bool:
        return relay.watchdog_feeds >= 3

    await eventually(fed, "passes feed the watchdog", 10)
    assert relay.stop() == 0
    assert [line["event"] for line in relay.lines][-1] == "stopping"


async def test_without_the_database_the_relay_does_not_become_ready(start_unit: StartUnit) -> None:
    relay = start_unit("relay", "relay-1", DB_URL="postgresql://cpq_relay@127.0.0.1:1/cpq")

    assert not await asyncio.to_thread(relay.wait_for, "READY=1", 30)
    assert relay.wait() == 1
    assert relay.lines[-1]["event"] == "start_failed"


async def test_the_broker_judges_each_event_of_a_batch(kafka: Kafka, tenant: str) -> None:
    publisher = KafkaEventPublisher(kafka.connection("relay"), SystemClock(), timedelta(seconds=3))
    events = [
        order_event(tenant, uuid.uuid4(), 1),
        order_event(tenant, uuid.uuid4(), 1, padding=2_000_000),
        order_event(tenant, uuid.uuid4(), 1, topic="oms.nothing.events.v1"),
        order_event(tenant, uuid.uuid4(), 1),
    ]

    try:
        deliveries = await publisher.publish(events)
    finally:
        await publisher.close()

    assert [type(delivery) for delivery in deliveries] == [Published, Rejected, Undelivered, Published]


async def test_a_broker_that_does_not_answer_is_no_fault_of_the_events(kafka: Kafka, tenant: str) -> None:
    async def accept_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept_and_say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    relay = kafka.connection("relay")
    silent = type(relay)([f"127.0.0.1:{port}"], relay.username, relay.password, relay.client_id)
    publisher = KafkaEventPublisher(silent, SystemClock(), timedelta(seconds=2))

    try:
        with pytest.raises(Unavailable, match="kafka"):
            await publisher.publish([order_event(tenant, uuid.uuid4(), 1)])
    finally:
        await publisher.close()
        server.close()
