"""Three relays share the outbox; two are stopped beyond their leases in the middle of a batch, and come back."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable
from uuid import UUID

import pytest

from app.adapters.postgres.pool import Connection
from app.messaging import cloudevents
from app.messaging.inbox import Record
from tests.integration.conftest import OpenPool
from tests.support.event_fixtures import StartUnit
from tests.support.event_unit import EventUnit
from tests.support.events import TOPIC, commit_events, order_event
from tests.support.kafka import Kafka
from tests.support.waiting import eventually
from tests.support.watched_sessions import watching

pytestmark = pytest.mark.usefixtures("own_outbox")

SHARES = [6, 5, 5]
CLAIMS = "%predecessor%"
MARKS = "%state = 'published', published_at%"


async def share(relays: list[EventUnit], shares: list[int]) -> None:
    async def shared() -> bool:
        return [relay.metric("cpq_relay_shards") for relay in relays] == shares

    await eventually(shared, f"the relays hold {shares} shards")


def first_appearances(records: list[Record]) -> dict[UUID, list[int]]:
    seen: dict[UUID, list[int]] = defaultdict(list)
    for record in records:
        sequence, order = cloudevents.decode(record.headers).sequence, UUID((record.key or b"").decode())
        if sequence not in seen[order]:
            seen[order].append(sequence)
    return seen


async def test_zombies_change_nothing_and_every_relay_has_its_share_again(
    open_pool: OpenPool, kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, tenant: str
) -> None:
    api = await open_pool("api")
    orders = [uuid.uuid4() for _ in range(60)]
    committed: set[UUID] = set()

    async def commit(seq: int) -> None:
        for order in orders:
            event = order_event(tenant, order, seq)
            committed.add(event.event_id)
            await commit_events(api, tenant, [event])

    def start(number: int) -> Callable[[], EventUnit]:
        return start_unit("relay", f"relay-{number}", RELAY_LEASE_DURATION="PT10S").wait_ready

    async def all_published() -> None:
        async def done() -> bool:
            cursor = await owner_connection.execute(
                "SELECT FROM cpq.outbox_event WHERE tenant_id = %s AND state <> 'published' LIMIT 1", (tenant,)
            )
            return await cursor.fetchone() is None

        await eventually(done, "every event of the tenant is published", 60)

    # They share without anybody's lease having lapsed, while events flow.
    relays = [await asyncio.to_thread(start(1))]
    streaming = asyncio.create_task(commit(1))
    relays += [await asyncio.to_thread(start(number)) for number in (2, 3)]
    await streaming
    await share(relays, SHARES)

    _, second, third = relays
    second.freeze()
    third.freeze()
    await commit(2)
    async with watching(await open_pool("relay"), owner_connection) as watch:
        # One holds a claimed batch and has sent nothing of it.
        await watch.freeze_in(second, "relay-2", CLAIMS, "LOCK TABLE cpq.outbox_event IN ACCESS EXCLUSIVE MODE")
        # The other has sent its batch, has Kafka's word on it, and has not marked it.
        await watch.freeze_in(
            third,
            "relay-3",
            MARKS,
            "SELECT FROM cpq.outbox_event AS e JOIN cpq.relay_shard_lease AS l USING (shard) "
            "WHERE e.tenant_id = %s AND e.state = 'pending' AND l.owner = 'relay-3' FOR UPDATE OF e",
            tenant,
        )
    await commit(3)
    await all_published()  # by the first, once the leases of the others have lapsed
    await share(relays[:1], [16])
    second.thaw()
    third.thaw()
    await share(relays, SHARES)

    records = [
        record
        for record in await asyncio.to_thread(kafka.records, TOPIC)
        if cloudevents.decode(record.headers).tenant_id == tenant
    ]
    assert first_appearances(records) == {order: [1, 2, 3] for order in orders}
    payloads: dict[UUID, set[bytes | None]] = defaultdict(set)
    for record in records:
        payloads[cloudevents.decode(record.headers).event_id].add(record.value)
    assert set(payloads) == committed
    assert all(len(versions) == 1 for versions in payloads.values())
    assert len(records) > len(committed), "the third relay's batch was published by its successor too"
    assert all(relay.is_running for relay in relays)
