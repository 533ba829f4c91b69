"""The outbox in PostgreSQL, without Kafka: what is claimed when, and who may mark it."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from app.adapters.postgres.outbox import OutboxListener, PostgresRelayStore
from app.adapters.postgres.pool import Connection, connection_parameters
from app.messaging.envelope import SHARDS
from app.messaging.outbox import Published, Rejected, Settlement, Undelivered
from tests.integration.conftest import OpenPool
from tests.support.events import append, commit_events, order_event
from tests.support.services import Services

LEASE = timedelta(seconds=30)
ALL = list(range(SHARDS))

pytestmark = pytest.mark.usefixtures("own_outbox")


async def claimed(store: PostgresRelayStore, limit: int = 100) -> list[tuple[UUID, int]]:
    return [(event.envelope.aggregate_id, event.envelope.aggregate_seq) for event in await store.claim(ALL, limit)]


async def test_a_relay_that_remembers_the_last_id_loses_a_late_commit_and_ours_does_not(
    open_pool: OpenPool, admin_connection: Connection, tenant: str
) -> None:
    api, store = await open_pool("api"), PostgresRelayStore(await open_pool("relay"), "relay-1")
    slow, fast = order_event(tenant, uuid.uuid4(), 1), order_event(tenant, uuid.uuid4(), 1)

    async def seen_by_last_time(last: object) -> list[UUID]:
        """What a relay with a cursor would read: everything younger than the last event it saw."""
        cursor = await admin_connection.execute(
            "SELECT event_id FROM cpq.outbox_event WHERE tenant_id = %s AND occurred_at > %s ORDER BY occurred_at",
            (tenant, last),
        )
        return [row["event_id"] async for row in cursor]

    async with api.connection() as connection, connection.transaction():
        await append(connection, tenant, [slow])  # first in every sequence and clock …
        await commit_events(api, tenant, [fast])
        assert await seen_by_last_time("-infinity") == [fast.event_id]
        assert await claimed(store) == [(fast.aggregate_id, 1)]
        # … and committed last.
    leases = await store.hold({}, LEASE)
    await store.settle(leases, [Settlement(fast.event_id, fast.shard, Published(0, 0))])

    assert await seen_by_last_time(fast.occurred_at) == []
    assert await claimed(store) == [(slow.aggregate_id, 1)]


async def test_a_later_event_waits_for_its_predecessor_whatever_holds_that_back(
    open_pool: OpenPool, owner_connection: Connection, tenant: str
) -> None:
    api, store = await open_pool("api"), PostgresRelayStore(await open_pool("relay"), "relay-1")
    leases = await store.hold({}, LEASE)
    order = uuid.uuid4()
    first, second, third = (order_event(tenant, order, seq) for seq in (1, 2, 3))

    await commit_events(api, tenant, [second])
    assert await claimed(store) == []  # the first is not even visible

    await commit_events(api, tenant, [first, third])
    assert await claimed(store) == [(order, 1)]

    await store.settle(
        leases, [Settlement(first.event_id, first.shard, Undelivered("no leader"), timedelta(minutes=5))]
    )
    assert await claimed(store) == []  # the first waits for its retry

    await owner_connection.execute(
        "UPDATE cpq.outbox_event SET next_attempt_at = now() WHERE event_id = %s", (first.event_id,)
    )
    await store.settle(leases, [Settlement(first.event_id, first.shard, Rejected("too large"))])
    assert await claimed(store) == []  # the first is parked
    assert (await store.backlog()).parked_aggregates == 1

    await owner_connection.execute(
        "UPDATE cpq.outbox_event SET state = 'pending' WHERE event_id = %s", (first.event_id,)
    )
    for envelope in (first, second, third):
        assert await claimed(store) == [(order, envelope.aggregate_seq)]
        await store.settle(leases, [Settlement(envelope.event_id, envelope.shard, Published(3, 7))])
    assert await claimed(store) == []


async def test_outcomes_of_a_shard_that_has_another_owner_are_not_written(
    open_pool: OpenPool, owner_connection: Connection, tenant: str
) -> None:
    api, pool = await open_pool("api"), await open_pool("relay")
    zombie, successor = PostgresRelayStore(pool, "relay-1"), PostgresRelayStore(pool, "relay-2")
    event = order_event(tenant, uuid.uuid4(), 1)
    await commit_events(api, tenant, [event])
    old = await zombie.hold({}, LEASE)
    assert await successor.hold({}, LEASE) == {}

    await owner_connection.execute("UPDATE cpq.relay_shard_lease SET expires_at = now()")
    new = await successor.hold({}, LEASE)
    settled = await zombie.settle(old, [Settlement(event.event_id, event.shard, Published(0, 0))])

    assert set(new) == set(ALL)
    assert (settled.published, settled.fenced) == (0, 1)
    assert await claimed(successor) == [(event.aggregate_id, 1)]
    assert await zombie.hold(old, LEASE) == {}
    assert (await successor.settle(new, [Settlement(event.event_id, event.shard, Published(0, 0))])).published == 1


async def test_a_restarted_instance_takes_over_at_once_and_outdates_its_predecessor(open_pool: OpenPool) -> None:
    pool = await open_pool("relay")
    old = await PostgresRelayStore(pool, "relay-1").hold({}, LEASE)

    new = await PostgresRelayStore(pool, "relay-1").take_over()

    assert new == {shard: fence + 1 for shard, fence in old.items()}


async def test_a_released_shard_is_free_at_once(open_pool: OpenPool) -> None:
    pool = await open_pool("relay")
    first, second = PostgresRelayStore(pool, "relay-1"), PostgresRelayStore(pool, "relay-2")
    await first.release(await first.hold({}, LEASE))

    assert set(await second.hold({}, LEASE)) == set(ALL)


async def test_two_relays_that_ask_at_once_share_without_overlap(open_pool: OpenPool) -> None:
    pool = await open_pool("relay")
    stores = [PostgresRelayStore(pool, f"relay-{number}") for number in range(4)]

    held = await asyncio.gather(*(store.hold({}, LEASE) for store in stores))

    assert sorted(shard for leases in held for shard in leases) == ALL


async def test_one_notification_per_transaction_and_none_without_commit(
    services: Services, open_pool: OpenPool, tenant: str
) -> None:
    api, wake = await open_pool("api"), asyncio.Event()
    parameters = connection_parameters(
        services.database_url("relay"),
        services.secret("db_relay_password"),
        application_name="tests",
        statement_timeout=timedelta(seconds=5),
    )
    order = uuid.uuid4()
    async with await psycopg.AsyncConnection.connect(**parameters) as listening:
        await listening.execute("LISTEN outbox")
        listener = asyncio.create_task(OutboxListener(parameters, wake).run())
        async with asyncio.timeout(5):
            await wake.wait()  # a new connection counts as a wake-up
        wake.clear()
        async with api.connection() as connection:
            async with connection.transaction():
                await append(connection, tenant, [order_event(tenant, order, 1)])
                await append(connection, tenant, [order_event(tenant, order, 2), order_event(tenant, order, 3)])
            async with connection.transaction(force_rollback=True):
                await append(connection, tenant, [order_event(tenant, uuid.uuid4(), 1)])

        notifications = [notification async for notification in listening.notifies(timeout=1)]
        listener.cancel()

    assert [notification.channel for notification in notifications] == ["outbox"]
    assert wake.is_set()


async def test_two_events_of_one_aggregate_cannot_have_the_same_sequence(open_pool: OpenPool, tenant: str) -> None:
    api, order = await open_pool("api"), uuid.uuid4()
    await commit_events(api, tenant, [order_event(tenant, order, 1)])

    with pytest.raises(psycopg.errors.UniqueViolation):
        await commit_events(api, tenant, [order_event(tenant, order, 1)])


async def test_the_relay_reads_nothing_but_the_outbox(open_pool: OpenPool) -> None:
    pool = await open_pool("relay")
    async with pool.connection() as connection:
        for table in ("product_order", "quote", "tenant"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(f"SELECT * FROM cpq.{table}")


async def test_a_claim_can_be_answered_from_the_index_of_unpublished_events(owner_connection: Connection) -> None:
    async with owner_connection.transaction():
        # The table of a test is so small that reading or sorting all of it would be cheapest: without those two, a sort
        # is left only when the index cannot give the order.
        await owner_connection.execute("SET LOCAL enable_seqscan = off")
        await owner_connection.execute("SET LOCAL enable_sort = off")
        cursor = await owner_connection.execute(
            "EXPLAIN SELECT * FROM cpq.outbox_event WHERE shard = 3 AND state <> 'published' AND state = 'pending' "
            "ORDER BY aggregate_id, aggregate_seq LIMIT 10"
        )
        plan = "\n".join([row["QUERY PLAN"] async for row in cursor])

    assert "outbox_event_unpublished" in plan
    assert "Sort" not in plan
