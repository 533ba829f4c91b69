"""Two colours of a consumer group: one is a member, and a batch that the former one had under way counts once."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from app.adapters.postgres.colour_desk import PostgresColourDesk
from app.adapters.postgres.pool import Connection
from app.messaging.colours import Colour
from tests.integration.conftest import OpenPool
from tests.support.colours import REASON
from tests.support.consumers import record, rows, write
from tests.support.event_fixtures import StartUnit
from tests.support.event_unit import EventUnit
from tests.support.events import order_event
from tests.support.kafka import Kafka
from tests.support.operator import Operator
from tests.support.waiting import eventually
from tests.support.watched_sessions import watching

GROUP = "order-projection"
ROLE = f"consumer@{GROUP}"

pytestmark = pytest.mark.usefixtures("at_the_end", "own_epochs")


def applied(consumer: EventUnit) -> float:
    return consumer.metric(f'cpq_consumer_events_total{{group="{GROUP}",outcome="applied"}}')


async def until_counted(consumer: EventUnit, events: int) -> None:
    """Events are applied before they are counted."""

    async def is_counted() -> bool:
        return applied(consumer) == events

    await eventually(is_counted, f"the consumer counts {events} events")


async def until_applied(connection: Connection, tenant: str, orders: int) -> None:
    async def done() -> bool:
        found = await rows(connection, "SELECT FROM cpq.order_projection WHERE tenant_id = %s", tenant)
        return len(found) == orders

    await eventually(done, f"{orders} orders are in the projection", 60)


async def test_a_frozen_batch_of_the_former_colour_is_refused_and_counts_once(
    open_pool: OpenPool,
    kafka: Kafka,
    start_unit: StartUnit,
    owner_connection: Connection,
    operator: Operator,
    *,
    tenant: str,
) -> None:
    blue = await asyncio.to_thread(start_unit("consumer", "consumer-blue", APP_COLOUR="blue").wait_ready)
    green = await asyncio.to_thread(start_unit("consumer", "consumer-green", APP_COLOUR="green").wait_ready)
    flipped = await operator.run("epoch", "flip", ROLE, "--to", "blue", "--reason", REASON.text)
    assert flipped.changes == [f"{ROLE}: none to blue, epoch 0 to 1"]
    await write(kafka, *(record(order_event(tenant, uuid.uuid4(), 1)) for _ in range(20)))
    await until_applied(owner_connection, tenant, 20)
    await until_counted(blue, 20)
    assert applied(green) == 0

    async with watching(await open_pool("consumer"), owner_connection) as watch, owner_connection.transaction():
        # The epoch moves on while blue's batch waits for its word: what it holds then is over.
        desk = PostgresColourDesk(owner_connection)
        await desk.hold(ROLE)
        await write(kafka, *(record(order_event(tenant, uuid.uuid4(), 1)) for _ in range(20)))
        await watch.freeze_before_its_epoch(blue, "consumer-blue")
        await desk.move(ROLE, Colour.GREEN, REASON)
    await until_applied(owner_connection, tenant, 40)
    blue.thaw()

    async def stands_by() -> bool:
        return blue.status == "standing by: green works, epoch 2"

    await eventually(stands_by, "blue stands by")
    await until_counted(green, 20)
    assert applied(blue) == 20
    reasons = [line.get("reason", "") for line in blue.lines if line["event"] == "consumer_waits"]
    assert any(f"epoch 1 of {ROLE} is not held: it is in epoch 2" in reason for reason in reasons)
    seen = await rows(owner_connection, "SELECT FROM cpq.inbox_event WHERE tenant_id = %s", tenant)
    assert len(seen) == 40
    assert [await asyncio.to_thread(unit.stop) for unit in (blue, green)] == [0, 0]
