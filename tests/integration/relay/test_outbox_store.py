"""The outbox in PostgreSQL, without Kafka: what is claimed when, and who may mark it."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from app.adapters.postgres.outbox import OutboxListener, PostgresRelayStore
from app.adapters.postgres.pool import Connection, RoleConnection, connection_parameters
from app.messaging.envelope import SHARDS
from app.messaging.outbox import Leases, Published, Rejected, Settlement, Undelivered
from tests.integration.conftest import OpenPool
from tests.support.events import append, commit_events, order_event
from tests.support.services import Services

LEASE = timedelta(seconds=30)
ALL = list(range(SHARDS))

pytestmark = pytest.mark.usefixtures("own_outbox")


async def claimed(store: PostgresRelayStore, limit: int = 100) -> list[tuple[UUID, int]]:
    return [(event.envelope.aggregate_id, event.envelope.aggregate_seq) for event in await store.claim(ALL, limit)]


async def lapse(connection: Connection) -> None:
    """Let so much time pass that every relay of before has been silent for too long."""
    await connection.execute("UPDATE cpq.relay_shard_lease SET expires_at = now()")
    await connection.execute("UPDATE cpq.relay_member SET expires_at = now()")


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

    await lapse(owner_connection)
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


async def rounds(stores: dict[str, PostgresRelayStore], held: dict[str, Leases], count: int = 3) -> None:
    """Let each relay renew so many times; no shard may have two owners or, after the last round, none."""
    for _ in range(count):
        for name, store in stores.items():
            held[name] = await store.hold(held.get(name, {}), LEASE)
            shards = [shard for leases in held.values() for shard in leases]
            assert len(shards) == len(set(shards))
    assert sorted(shard for name in stores for shard in held[name]) == ALL


async def test_relays_come_to_equal_shares_when_others_join_leave_and_die(
    open_pool: OpenPool, owner_connection: Connection
) -> None:
    pool = await open_pool("relay")
    stores = {name: PostgresRelayStore(pool, name) for name in ("relay-1", "relay-2", "relay-3")}
    held: dict[str, Leases] = {}

    await rounds({"relay-1": stores["relay-1"]}, held)
    kept = held["relay-1"]
    await rounds(stores, held)
    assert [len(held[name]) for name in stores] == [6, 5, 5]
    assert held["relay-1"].items() <= kept.items()  # what it kept it never let go of

    await stores["relay-2"].release(held.pop("relay-2"))
    left = {name: stores[name] for name in ("relay-1", "relay-3")}
    await rounds(left, held)
    assert [len(held[name]) for name in left] == [8, 8]

    await owner_connection.execute("UPDATE cpq.relay_shard_lease SET expires_at = now() WHERE owner = 'relay-1'")
    await owner_connection.execute("UPDATE cpq.relay_member SET expires_at = now() WHERE owner = 'relay-1'")
    del held["relay-1"]
    await rounds({"relay-3": stores["relay-3"]}, held)
    assert len(held["relay-3"]) == SHARDS


async def test_more_relays_than_shards_leave_some_in_reserve(open_pool: OpenPool) -> None:
    pool, held = await open_pool("relay"), dict[str, Leases]()
    stores = {f"relay-{number:02}": PostgresRelayStore(pool, f"relay-{number:02}") for number in range(SHARDS + 2)}

    await rounds(stores, held)

    assert sorted(len(leases) for leases in held.values()) == [0, 0] + [1] * SHARDS


async def test_a_relay_that_was_gone_for_a_day_is_forgotten(open_pool: OpenPool, owner_connection: Connection) -> None:
    store = PostgresRelayStore(await open_pool("relay"), "relay-1")
    await owner_connection.execute(
        "INSERT INTO cpq.relay_member VALUES ('relay-0', now() - interval '25 hours'), ('relay-2', now())"
    )

    assert len(await store.hold({}, LEASE)) == SHARDS

    cursor = await owner_connection.execute("SELECT owner FROM cpq.relay_member ORDER BY owner")
    assert [row["owner"] async for row in cursor] == ["relay-1", "relay-2"]


async def test_what_another_contract_refused_is_judged_anew_and_nothing_else(open_pool: OpenPool, tenant: str) -> None:
    api, store = await open_pool("api"), PostgresRelayStore(await open_pool("relay"), "relay-1")
    events = [order_event(tenant, uuid.uuid4(), 1) for _ in range(3)]
    await commit_events(api, tenant, events)
    leases = await store.hold({}, LEASE)
    refusals = [Rejected("not as agreed", "old"), Rejected("not as agreed", "new"), Rejected("too large")]
    await store.settle(leases, [Settlement(e.event_id, e.shard, r) for e, r in zip(events, refusals, strict=True)])

    assert await store.judge_anew(leases, "new") == 1

    assert await claimed(store) == [(events[0].aggregate_id, 1)]
    assert (await store.backlog()).parked_aggregates == 2


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
    async with await RoleConnection.connect(**parameters) as listening:
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
    """Asked of an empty twin of the table without the unique index, which gives the same order and wins by chance of the figures."""
    async with owner_connection.transaction(force_rollback=True):
        await owner_connection.execute("CREATE TEMP TABLE twin (LIKE cpq.outbox_event)")
        cursor = await owner_connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'outbox_event_unpublished'"
        )
        [row] = [row async for row in cursor]
        await owner_connection.execute(row["indexdef"].replace(" ON cpq.outbox_event ", " ON twin "))
        # A small table is cheapest read or sorted whole: without those two, a sort is left only when the index has no such order.
        await owner_connection.execute("SET LOCAL enable_seqscan = off")
        await owner_connection.execute("SET LOCAL enable_sort = off")
        cursor = await owner_connection.execute(
            "EXPLAIN SELECT * FROM twin WHERE shard = 3 AND state <> 'published' AND state = 'pending' "
            "ORDER BY aggregate_id, aggregate_seq LIMIT 10"
        )
        plan = "\n".join([row["QUERY PLAN"] async for row in cursor])

    assert "Index Scan using outbox_event_unpublished" in plan
    assert "Sort" not in plan
