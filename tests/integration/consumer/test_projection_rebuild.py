"""The order projection built anew from its events while the old one serves: compared with the orders, then switched."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from app.adapters.kafka.event_log import EventLog
from app.adapters.postgres.pool import Connection, Pool
from app.adapters.postgres.projection_rebuild import OutboxHistory, PostgresShadowProjection, compare_projection
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.application.projection_rebuild import (
    LogHistory,
    RebuildRefusedError,
    Rebuilt,
    Source,
    TenantSnapshot,
    rebuild,
)
from app.application.repair import RepairReason
from app.messaging import cloudevents
from app.messaging.envelope import Envelope
from app.messaging.inbox import Partition, Record
from app.runtime.ids import UuidV7Ids
from tests.integration.conftest import OpenPool
from tests.support.consumers import go_to_the_end, rows
from tests.support.event_fixtures import StartUnit
from tests.support.events import TOPIC
from tests.support.kafka import Kafka
from tests.support.orders import place_order, publish_catalog
from tests.support.waiting import eventually

REASON = RepairReason("tests", "rows were lost, see the test")
NOW = timedelta()


@pytest.fixture
async def operator(open_pool: OpenPool) -> AsyncIterator[Connection]:
    """A session that a rebuild has for itself."""
    pool: Pool = await open_pool("admin")
    async with pool.connection() as connection:
        yield connection


@pytest.fixture
async def orders(open_pool: OpenPool, admin_connection: Connection, tenant_id: str) -> list[UUID]:
    """Accepted orders of the test's tenant: their events are in the outbox, their projection is empty."""
    await publish_catalog(admin_connection, tenant_id)
    open_unit_of_work = unit_of_work_factory(await open_pool("api"))
    return [await place_order(open_unit_of_work, tenant_id) for _ in range(3)]


async def from_outbox(connection: Connection, tenant: str) -> Rebuilt:
    shadow = PostgresShadowProjection(connection, UuidV7Ids(), tenant)
    return await rebuild(shadow, OutboxHistory(connection, TOPIC, tenant), "outbox", REASON)


async def from_log(kafka: Kafka, connection: Connection, tenant: str) -> Rebuilt:
    source: Source = "log"
    log = await asyncio.to_thread(EventLog, kafka.connection("admin").options(), TOPIC)
    try:
        shadow = PostgresShadowProjection(connection, UuidV7Ids(), tenant)
        return await rebuild(shadow, LogHistory(log, tenant), source, REASON)
    finally:
        await asyncio.to_thread(log.close)


async def publish(kafka: Kafka, connection: Connection, tenant: str, left_out: Sequence[UUID] = ()) -> None:
    """Write the outbox's order events to the topic, as the relay would, and mark all of them."""
    found = await rows(connection, "SELECT * FROM cpq.outbox_event WHERE topic = %s AND tenant_id = %s", TOPIC, tenant)
    names = ("event_id", "tenant_id", "aggregate_type", "aggregate_id", "aggregate_seq", "event_type", "topic")
    more = ("partition_key", "payload", "occurred_at", "traceparent")
    records = []
    for row in found:
        if row["aggregate_id"] not in left_out:
            envelope = Envelope(**{name: row[name] for name in (*names, *more)})
            headers = tuple(cloudevents.encode(envelope))
            records.append(
                Record(Partition(TOPIC, 0), 0, envelope.partition_key.encode(), envelope.payload.encode(), headers)
            )
    await asyncio.to_thread(kafka.write, records)
    await connection.execute("UPDATE cpq.outbox_event SET state = 'published' WHERE tenant_id = %s", (tenant,))


async def projected(connection: Connection, tenant: str) -> dict[UUID, tuple[str, int]]:
    found = await rows(connection, "SELECT * FROM cpq.order_projection WHERE tenant_id = %s", tenant)
    return {row["order_id"]: (row["state"], row["applied_seq"]) for row in found}


async def test_from_the_outbox_wrong_lost_and_invented_rows_become_what_the_orders_are(
    operator: Connection, admin_connection: Connection, owner_connection: Connection, tenant_id: str, orders: list[UUID]
) -> None:
    await owner_connection.execute(
        "INSERT INTO cpq.order_projection (order_id, tenant_id, state, applied_seq, updated_at) "
        "VALUES (%s, %s, 'completed', 99, now()), (%s, %s, 'held', 1, now())",
        (orders[0], tenant_id, uuid.uuid4(), tenant_id),
    )
    before = await compare_projection(admin_connection, tenant_id, NOW)
    assert not before.is_equal
    assert len(before.differing) == 4

    rebuilt = await from_outbox(operator, tenant_id)

    assert await projected(admin_connection, tenant_id) == dict.fromkeys(orders, ("acknowledged", 1))
    assert (await compare_projection(admin_connection, tenant_id, NOW)).is_equal
    assert (rebuilt.events, rebuilt.changed_rows) == (3, 4)
    again = await from_outbox(operator, tenant_id)
    assert again.changed_rows == 0
    [shadow] = await rows(admin_connection, "SELECT count(*) AS left FROM cpq.order_projection_shadow")
    assert shadow["left"] == 3


class WatchedShadow(PostgresShadowProjection):
    """A rebuild that somebody looks at while it switches."""

    def __init__(self, connection: Connection, tenant_id: str, reader: Connection) -> None:
        super().__init__(connection, UuidV7Ids(), tenant_id)
        self._reader, self._tenant = reader, tenant_id
        self.seen: dict[UUID, tuple[str, int]] | None = None

    async def replace(self, rebuild_id: UUID, events: int, checksum: str) -> int:
        changed = await super().replace(rebuild_id, events, checksum)
        self.seen = await projected(self._reader, self._tenant)
        return changed


async def test_readers_see_the_old_rows_until_the_switch_is_committed(
    operator: Connection, admin_connection: Connection, owner_connection: Connection, tenant_id: str, orders: list[UUID]
) -> None:
    await owner_connection.execute(
        "INSERT INTO cpq.order_projection (order_id, tenant_id, state, applied_seq, updated_at) "
        "VALUES (%s, %s, 'held', 7, now())",
        (orders[0], tenant_id),
    )
    shadow = WatchedShadow(operator, tenant_id, admin_connection)

    await rebuild(shadow, OutboxHistory(operator, TOPIC, tenant_id), "outbox", REASON)

    assert shadow.seen == {orders[0]: ("held", 7)}
    assert await projected(admin_connection, tenant_id) == dict.fromkeys(orders, ("acknowledged", 1))


async def test_from_the_log_whatever_was_published_more_than_once(
    kafka: Kafka, operator: Connection, owner_connection: Connection, tenant_id: str, orders: list[UUID]
) -> None:
    await publish(kafka, owner_connection, tenant_id)
    await publish(kafka, owner_connection, tenant_id)

    rebuilt = await from_log(kafka, operator, tenant_id)

    assert await projected(owner_connection, tenant_id) == dict.fromkeys(orders, ("acknowledged", 1))
    assert rebuilt.events == 6


async def test_a_log_that_lost_events_is_refused_and_nothing_is_changed(
    kafka: Kafka, operator: Connection, owner_connection: Connection, tenant_id: str, orders: list[UUID]
) -> None:
    await publish(kafka, owner_connection, tenant_id, left_out=orders[1:2])

    with pytest.raises(RebuildRefusedError, match=f"1 of 3 orders are not as they should be, such as {orders[1]}"):
        await from_log(kafka, operator, tenant_id)

    assert await projected(owner_connection, tenant_id) == {}
    assert (await from_outbox(operator, tenant_id)).changed_rows == 3


async def test_a_rebuild_while_the_consumer_writes_new_events_loses_none_of_them(
    *,
    kafka: Kafka,
    start_unit: StartUnit,
    open_pool: OpenPool,
    operator: Connection,
    owner_connection: Connection,
    tenant_id: str,
    orders: list[UUID],
) -> None:
    await go_to_the_end(kafka, owner_connection, "order-projection")
    consumer = await asyncio.to_thread(start_unit("consumer", "consumer-1").wait_ready)
    open_unit_of_work = unit_of_work_factory(await open_pool("api"))
    placed = list(orders)

    async def go_on_ordering() -> None:
        for _ in range(8):
            placed.append(await place_order(open_unit_of_work, tenant_id))
            await publish(kafka, owner_connection, tenant_id)

    await publish(kafka, owner_connection, tenant_id)
    ordering = asyncio.create_task(go_on_ordering())
    rebuilds = 0
    while not ordering.done():
        await from_log(kafka, operator, tenant_id)
        rebuilds += 1
    await ordering

    async def all_there() -> bool:
        return await projected(owner_connection, tenant_id) == dict.fromkeys(placed, ("acknowledged", 1))

    await eventually(all_there, "every order is projected")
    assert rebuilds > 1
    assert (await compare_projection(operator, tenant_id, NOW)).is_equal
    await asyncio.to_thread(consumer.stop)
    await go_to_the_end(kafka, owner_connection, "order-projection")


class LateLog:
    """A topic that goes on directly after the rebuild's switch has looked for its end.

    Args:
        log: the topic.
        go_on: what happens then, in the loop of the test.
    """

    def __init__(self, log: EventLog, go_on: Callable[[], Coroutine[None, None, None]]) -> None:
        self._log, self._go_on = log, go_on
        self._loop = asyncio.get_running_loop()
        self._looks = 0

    def look_for_end(self) -> None:
        self._log.look_for_end()
        self._looks += 1
        if self._looks == 2:
            asyncio.run_coroutine_threadsafe(self._go_on(), self._loop).result(timeout=20)

    def next_batch(self) -> Sequence[Record]:
        return self._log.next_batch()


async def test_an_order_that_is_published_after_the_switch_looked_for_the_end_is_not_held_against_it(
    *,
    kafka: Kafka,
    open_pool: OpenPool,
    operator: Connection,
    owner_connection: Connection,
    tenant_id: str,
    orders: list[UUID],
) -> None:
    await publish(kafka, owner_connection, tenant_id)
    open_unit_of_work = unit_of_work_factory(await open_pool("api"))

    async def one_more() -> None:
        await place_order(open_unit_of_work, tenant_id)
        await publish(kafka, owner_connection, tenant_id)

    log = await asyncio.to_thread(EventLog, kafka.connection("admin").options(), TOPIC)
    shadow = PostgresShadowProjection(operator, UuidV7Ids(), tenant_id)
    rebuilt = await rebuild(shadow, LogHistory(LateLog(log, one_more), tenant_id), "log", REASON)
    await asyncio.to_thread(log.close)

    assert rebuilt.comparison.orders == len(orders)
    assert await projected(owner_connection, tenant_id) == dict.fromkeys(orders, ("acknowledged", 1))


class TwiceAtOnce(PostgresShadowProjection):
    """A rebuild during which another one is asked for."""

    def __init__(self, connection: Connection, other: Connection, tenant_id: str) -> None:
        super().__init__(connection, UuidV7Ids(), tenant_id)
        self._other, self._tenant = other, tenant_id

    async def put(self, rebuild_id: UUID, snapshots: Sequence[TenantSnapshot]) -> None:
        with pytest.raises(RebuildRefusedError, match="another rebuild is running"):
            await from_outbox(self._other, self._tenant)
        await super().put(rebuild_id, snapshots)


async def test_one_rebuild_runs_at_a_time(
    operator: Connection, admin_connection: Connection, tenant_id: str, orders: list[UUID]
) -> None:
    shadow = TwiceAtOnce(operator, admin_connection, tenant_id)

    rebuilt = await rebuild(shadow, OutboxHistory(operator, TOPIC, tenant_id), "outbox", REASON)

    assert rebuilt.changed_rows == len(orders)
