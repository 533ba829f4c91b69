"""What operators see and delete of the outbox."""

from __future__ import annotations

import uuid
from datetime import timedelta
from uuid import UUID

import pytest

from app.adapters.postgres.outbox import PostgresRelayStore
from app.adapters.postgres.outbox_operations import OutboxOperations
from app.adapters.postgres.pool import Connection
from app.messaging.envelope import SHARDS
from tests.integration.conftest import OpenPool
from tests.support.events import commit_events, order_event
from tests.support.operator import Operator

pytestmark = pytest.mark.usefixtures("own_outbox")


async def left(connection: Connection, tenant: str) -> set[tuple[UUID, int]]:
    cursor = await connection.execute(
        "SELECT aggregate_id, aggregate_seq FROM cpq.outbox_event WHERE tenant_id = %s", (tenant,)
    )
    return {(row["aggregate_id"], row["aggregate_seq"]) async for row in cursor}


async def test_parked_events_are_listed_with_their_error_and_who_waits_until_they_are_requeued(
    open_pool: OpenPool, owner_connection: Connection, admin_connection: Connection, tenant: str, operator: Operator
) -> None:
    order = uuid.uuid4()
    events = [order_event(tenant, order, seq) for seq in (1, 2, 3)]
    await commit_events(await open_pool("api"), tenant, events)
    await owner_connection.execute(
        "UPDATE cpq.outbox_event SET state = 'parked', attempts = 1, last_error = 'too large' WHERE event_id = %s",
        (events[0].event_id,),
    )
    operations = OutboxOperations(admin_connection)

    [parked] = await operations.parked(tenant, 10)

    assert (parked.event_id, parked.aggregate_id, parked.aggregate_seq) == (events[0].event_id, order, 1)
    assert (parked.last_error, parked.waiting_behind, parked.tenant_id) == ("too large", 2, tenant)
    assert parked in await operations.parked(None, 1000)
    assert await operations.parked("test-nobody", 10) == []

    listed = await operator.run("repair", "outbox", "list", "--tenant", tenant)
    assert [event["event_id"] for event in listed.data["parked"]] == [parked.event_id]
    words = ("repair", "outbox", "requeue", str(parked.event_id), "--reason", "size limit was raised, ticket 4711")
    assert (await operator.run(*words)).exit_code == 0
    assert await operations.parked(tenant, 10) == []
    cursor = await admin_connection.execute(
        "SELECT actor, reason FROM cpq.audit_entry WHERE tenant_id = %s AND action = 'repair.outbox.requeue'", (tenant,)
    )
    assert await cursor.fetchall() == [{"actor": "operator:ana", "reason": "size limit was raised, ticket 4711"}]


async def test_a_discarded_event_stays_out_and_what_waited_behind_it_goes_on(
    open_pool: OpenPool, owner_connection: Connection, admin_connection: Connection, tenant: str, operator: Operator
) -> None:
    order = uuid.uuid4()
    events = [order_event(tenant, order, seq) for seq in (1, 2, 3)]
    await commit_events(await open_pool("api"), tenant, events)
    await owner_connection.execute(
        "UPDATE cpq.outbox_event SET state = 'parked', attempts = 1, last_error = 'too large' WHERE event_id = %s",
        (events[0].event_id,),
    )
    relay = PostgresRelayStore(await open_pool("relay"), "relay-1")
    assert await relay.claim(range(SHARDS), 100) == []
    words = ("repair", "outbox", "discard", str(events[0].event_id), "--reason")

    done = await operator.run(*words, "nobody needs it, ticket 4711")

    assert done.changes == [f"discard event {events[0].event_id} of {tenant}"]
    assert [each.envelope.aggregate_seq for each in await relay.claim(range(SHARDS), 100)] == [2]
    assert (await relay.backlog()).events == 2
    assert await relay.judge_anew(dict.fromkeys(range(SHARDS), 1), "another contract") == 0
    assert (await operator.run(*words, "nobody needs it, ticket 4711")).exit_code == 1
    cursor = await admin_connection.execute(
        "SELECT actor, reason, before_state ->> 'state' AS was FROM cpq.audit_entry "
        "WHERE tenant_id = %s AND action = 'repair.outbox.discard'",
        (tenant,),
    )
    assert await cursor.fetchall() == [
        {"actor": "operator:ana", "reason": "nobody needs it, ticket 4711", "was": "parked"}
    ]


async def test_a_prune_is_audited_and_nothing_younger_than_a_week_can_be_asked_for(
    operator: Operator, admin_connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    done = await operator.run("outbox", "prune", "--older-than-days", "3650")

    assert (done.exit_code, done.changed, done.data) == (0, False, {"deleted": 0})
    cursor = await admin_connection.execute(
        "SELECT detail FROM cpq.admin_run WHERE command = 'outbox prune' ORDER BY started_at DESC"
    )
    row = await cursor.fetchone()
    assert row is not None
    assert row["detail"] == {"older_than_days": 3650, "deleted": 0}
    with pytest.raises(SystemExit) as end:
        await operator.run("outbox", "prune", "--older-than-days", "6")
    assert (end.value.code, "older-than-days" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("batch", [1, 2, 1000])
async def test_pruning_keeps_what_the_relay_asks_for_and_all_that_is_young_or_unpublished(
    open_pool: OpenPool, owner_connection: Connection, admin_connection: Connection, tenant: str, batch: int
) -> None:
    finished, waiting, parked, young = (uuid.uuid4() for _ in range(4))
    events = {
        (order, seq): order_event(tenant, order, seq)
        for order in (finished, waiting, parked, young)
        for seq in (1, 2, 3)
    }
    await commit_events(await open_pool("api"), tenant, list(events.values()))
    await owner_connection.execute(
        "UPDATE cpq.outbox_event SET state = 'published', published_at = now() - interval '100 days' WHERE tenant_id = %s",
        (tenant,),
    )
    for order, state, published in (
        ((waiting, 3), "pending", None),
        ((parked, 2), "parked", None),
        ((parked, 3), "pending", None),
        ((young, 1), "published", "89 days"),
        ((young, 2), "published", "1 day"),
        ((young, 3), "published", "1 day"),
    ):
        await owner_connection.execute(
            "UPDATE cpq.outbox_event SET state = %s, published_at = now() - %s::interval WHERE event_id = %s",
            (state, published, events[order].event_id),
        )

    deleted = await OutboxOperations(admin_connection).prune(timedelta(days=90), batch)

    assert deleted >= 3
    assert set(events) - await left(admin_connection, tenant) == {(finished, 1), (finished, 2), (waiting, 1)}
    claimed = await PostgresRelayStore(await open_pool("relay"), "relay-1").claim(range(SHARDS), 100)
    assert (waiting, 3) in {(each.envelope.aggregate_id, each.envelope.aggregate_seq) for each in claimed}
