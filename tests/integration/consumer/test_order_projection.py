"""The order-projection consumer as a process between a real broker and a real database."""

from __future__ import annotations

import asyncio
import uuid
from uuid import UUID

import pytest

from app.adapters.postgres.pool import Connection
from app.messaging.inbox import Partition, Record
from tests.support.consumers import PARTITIONS, position, record, rows, write
from tests.support.event_fixtures import StartUnit
from tests.support.events import TOPIC, order_event
from tests.support.kafka import Kafka
from tests.support.waiting import eventually

GROUP = "order-projection"

pytestmark = pytest.mark.usefixtures("at_the_end")


async def projected(connection: Connection, tenant: str) -> dict[UUID, tuple[str, int]]:
    found = await rows(connection, "SELECT * FROM cpq.order_projection WHERE tenant_id = %s", tenant)
    return {row["order_id"]: (row["state"], row["applied_seq"]) for row in found}


async def inbox(connection: Connection, tenant: str) -> int:
    return len(await rows(connection, "SELECT 1 FROM cpq.inbox_event WHERE tenant_id = %s", tenant))


async def until_projected(
    connection: Connection, tenant: str, expected: dict[UUID, tuple[str, int]], seconds: float = 30
) -> None:
    async def done() -> bool:
        return await projected(connection, tenant) == expected

    await eventually(done, f"the projection is {expected}", seconds)


async def test_events_become_rows_once_however_often_they_come(
    kafka: Kafka, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    consumer = start_unit("consumer", "consumer-1").wait_ready()
    order = uuid.uuid4()
    events = [record(order_event(tenant, order, seq)) for seq in (1, 2, 3)]

    await write(kafka, *events, *events, events[0])
    await until_projected(admin_connection, tenant, {order: ("completed", 3)})

    async def all_counted() -> bool:
        outcomes = [
            consumer.metric(f'cpq_consumer_events_total{{group="{GROUP}",outcome="{outcome}"}}')
            for outcome in ("applied", "duplicate")
        ]
        return outcomes == [3, 4]

    await eventually(all_counted, "three applied, four duplicates")
    assert await inbox(admin_connection, tenant) == 3

    async def no_lag() -> bool:
        return consumer.metric(f'cpq_consumer_lag_records{{group="{GROUP}"}}') == 0

    await eventually(no_lag, "the lag is 0")
    assert await asyncio.to_thread(consumer.stop) == 0


async def test_an_earlier_event_that_arrives_later_changes_nothing(
    kafka: Kafka, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    start_unit("consumer", "consumer-1").wait_ready()
    order = uuid.uuid4()
    await write(kafka, record(order_event(tenant, order, 3)))
    await until_projected(admin_connection, tenant, {order: ("completed", 3)})

    await write(kafka, record(order_event(tenant, order, 2)))

    async def seen() -> bool:
        return await inbox(admin_connection, tenant) == 2

    await eventually(seen, "the late event is in the inbox")
    assert await projected(admin_connection, tenant) == {order: ("completed", 3)}


async def test_the_offset_in_postgresql_beats_kafkas(
    kafka: Kafka, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    orders = [uuid.uuid4() for _ in range(3)]
    await write(kafka, *(record(order_event(tenant, order, 1)) for order in orders))
    # Somebody reset Kafka's idea of the group: far ahead, where nothing would be read, and back to the beginning.
    await asyncio.to_thread(
        kafka.commit,
        GROUP,
        {Partition(TOPIC, 0): await position(admin_connection, GROUP, 0) + len(orders), Partition(TOPIC, 1): 0},
    )

    consumer = start_unit("consumer", "consumer-1").wait_ready()

    await until_projected(admin_connection, tenant, dict.fromkeys(orders, ("acknowledged", 1)))
    assert consumer.metric(f'cpq_consumer_events_total{{group="{GROUP}",outcome="duplicate"}}') in {None, 0}


async def test_a_database_rolled_back_takes_its_consumer_with_it(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, tenant: str
) -> None:
    before = await position(owner_connection, GROUP, 0)
    start_unit("consumer", "consumer-1").wait_ready()
    first, second = uuid.uuid4(), uuid.uuid4()
    await write(kafka, record(order_event(tenant, first, 1)))
    await until_projected(owner_connection, tenant, {first: ("acknowledged", 1)})

    # What a restore to a point in time leaves: rows, inbox and position of the past, under a running consumer.
    async with owner_connection.transaction():
        await owner_connection.execute("DELETE FROM cpq.order_projection WHERE tenant_id = %s", (tenant,))
        await owner_connection.execute("DELETE FROM cpq.inbox_event WHERE tenant_id = %s", (tenant,))
        await owner_connection.execute(
            "UPDATE cpq.consumer_offset SET next_offset = %s WHERE consumer_group = %s AND kafka_partition = 0",
            (before, GROUP),
        )
    await write(kafka, record(order_event(tenant, second, 1)))

    await until_projected(owner_connection, tenant, {first: ("acknowledged", 1), second: ("acknowledged", 1)})


async def test_kills_at_any_moment_leave_each_effect_exactly_once(
    kafka: Kafka, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    orders = [uuid.uuid4() for _ in range(80)]

    async def stream() -> None:
        for seq in (1, 2, 3):
            for chunk in range(0, len(orders), 10):
                batch = orders[chunk : chunk + 10]
                await write(
                    kafka, *(record(order_event(tenant, order, seq), order.int % PARTITIONS) for order in batch)
                )

    streaming = asyncio.create_task(stream())
    for pause in (0.2, 0.5, 0.9):
        consumer = await asyncio.to_thread(start_unit("consumer", "consumer-1").wait_ready)
        await asyncio.sleep(pause)
        consumer.kill()
    await streaming
    await asyncio.to_thread(start_unit("consumer", "consumer-1").wait_ready)

    await until_projected(admin_connection, tenant, dict.fromkeys(orders, ("completed", 3)))
    assert await inbox(admin_connection, tenant) == 240


async def set_aside_without_effect(
    kafka: Kafka, start_unit: StartUnit, connection: Connection, *, written: Record, code: str, detail: str
) -> None:
    start_unit("consumer", "consumer-1").wait_ready()
    everything = "SELECT order_id, tenant_id, state, applied_seq FROM cpq.order_projection ORDER BY order_id"
    before = await rows(connection, everything)
    await write(kafka, written)

    async def is_parked() -> bool:
        parked = await rows(
            connection,
            "SELECT error_code, error_detail FROM cpq.consumer_parked_event WHERE consumer_group = %s",
            GROUP,
        )
        return [(row["error_code"], detail in row["error_detail"]) for row in parked] == [(code, True)]

    await eventually(is_parked, f"the event is parked for {detail}")
    assert await rows(connection, everything) == before


async def test_an_event_whose_header_and_payload_name_different_tenants_has_no_effect(
    kafka: Kafka, start_unit: StartUnit, admin_connection: Connection, tenant: str
) -> None:
    forged = record(order_event(tenant, uuid.uuid4(), 1), header_tenant="globex")

    await set_aside_without_effect(
        kafka,
        start_unit,
        admin_connection,
        written=forged,
        code="unreadable",
        detail="tenant differs between header and payload",
    )


async def test_another_tenants_order_is_out_of_reach(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, tenant: str
) -> None:
    order = uuid.uuid4()
    await owner_connection.execute(
        "INSERT INTO cpq.order_projection (order_id, tenant_id, state, applied_seq, updated_at) "
        "VALUES (%s, %s, 'acknowledged', 1, now())",
        (order, tenant),
    )
    stranger = record(order_event("stranger", order, 2))

    await set_aside_without_effect(
        kafka, start_unit, owner_connection, written=stranger, code="sqlstate-42501", detail="row-level security"
    )


async def test_offsets_that_kafka_no_longer_has_stop_the_partition_and_are_not_jumped(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, tenant: str
) -> None:
    lost = await position(owner_connection, GROUP, 0) + 1_000_000
    await owner_connection.execute(
        "UPDATE cpq.consumer_offset SET next_offset = %s WHERE consumer_group = %s AND kafka_partition = 0",
        (lost, GROUP),
    )
    consumer = start_unit("consumer", "consumer-1").wait_ready()
    order = uuid.uuid4()
    await write(kafka, record(order_event(tenant, uuid.uuid4(), 1), 0), record(order_event(tenant, order, 1), 1))

    await until_projected(owner_connection, tenant, {order: ("acknowledged", 1)})

    async def loud() -> bool:
        return f"{TOPIC}[0] halted at offset {lost}" in consumer.status

    await eventually(loud, "STATUS tells of it")
    assert await position(owner_connection, GROUP, 0) == lost


async def test_without_kafka_the_consumer_is_ready_waits_and_says_so(start_unit: StartUnit) -> None:
    consumer = start_unit("consumer", "consumer-1", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1").wait_ready()

    async def says_so() -> bool:
        return "kafka:" in consumer.status and consumer.watchdog_feeds >= 1

    await eventually(says_so, "STATUS names Kafka and the watchdog is fed")
    assert await asyncio.to_thread(consumer.stop) == 0
