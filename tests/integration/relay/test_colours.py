"""Two colours of the relay over one outbox: one works, and what the other one still has under way is refused."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from app.adapters.postgres.colour_desk import PostgresColourDesk
from app.adapters.postgres.pool import EPOCH_OVER, Connection, Pool, connection_parameters, make_pool
from app.application.colour_flip import Flip, flip
from app.entrypoints.admin.outcome import Outcome
from app.messaging import cloudevents
from app.messaging.colours import Colour, HeldEpoch, RoleEpoch
from tests.integration.conftest import OpenPool
from tests.support.colours import REASON
from tests.support.event_fixtures import StartUnit
from tests.support.event_unit import EventUnit
from tests.support.events import TOPIC, commit_events, order_event
from tests.support.kafka import Kafka
from tests.support.operator import Operator
from tests.support.services import Services
from tests.support.waiting import eventually
from tests.support.watched_sessions import watching

pytestmark = pytest.mark.usefixtures("own_outbox", "own_epochs")

SETTLES = "%FOR SHARE OF lease%"
MARKS = "%state = 'published', published_at%"
FENCED = {
    "worker": [
        "UPDATE cpq.workflow_reference SET last_error = NULL",
        "UPDATE cpq.external_call_attempt SET error = NULL",
        "UPDATE cpq.fulfillment_task SET last_error = NULL",
        "UPDATE cpq.fallout_case SET detail = detail",
        "UPDATE cpq.reaction SET last_error = NULL",
    ],
    "relay": ["UPDATE cpq.outbox_event SET last_error = NULL"],
    "consumer": [
        "UPDATE cpq.consumer_offset SET updated_at = now()",
        "INSERT INTO cpq.inbox_event SELECT * FROM cpq.inbox_event",
        "DELETE FROM cpq.consumer_parked_event",
        "DELETE FROM cpq.consumer_halt",
        "UPDATE cpq.dead_letter SET state = state",
        "UPDATE cpq.audit_export_segment SET written_at = written_at",
    ],
}


def works(relay: EventUnit, colour: str) -> bool:
    return relay.metric(f'cpq_role_works{{colour="{colour}",role="relay"}}') == 1


async def flip_relay(operator: Operator, to: str, *more: str) -> Outcome:
    return await operator.run("epoch", "flip", "relay", "--to", to, "--reason", REASON.text, *more)


async def all_published(connection: Connection, tenant: str) -> None:
    async def done() -> bool:
        cursor = await connection.execute(
            "SELECT FROM cpq.outbox_event WHERE tenant_id = %s AND state <> 'published' LIMIT 1", (tenant,)
        )
        return await cursor.fetchone() is None

    await eventually(done, "every event of the tenant is published", 60)


async def until_counted(relay: EventUnit, events: int) -> None:
    """Events are marked before they are counted."""

    async def is_counted() -> bool:
        return relay.metric("cpq_relay_published_total") == events

    await eventually(is_counted, f"the relay counts {events} events")


async def until_works(relay: EventUnit, colour: str) -> None:
    async def done() -> bool:
        return works(relay, colour)

    await eventually(done, f"{colour} works", 15)


@pytest.mark.parametrize("unit", FENCED)
async def test_every_write_that_matters_is_refused_under_another_epoch(
    services: Services, owner_connection: Connection, unit: str
) -> None:
    role, held = f"{unit}@tests", HeldEpoch()
    parameters = connection_parameters(
        services.database_url(unit),
        services.secret(f"db_{unit}_password"),
        application_name="tests",
        statement_timeout=timedelta(seconds=5),
    )
    parameters["options"] += f" -c cpq.role={role}"

    async def write(pool: Pool, statement: str) -> None:
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            await connection.execute(statement.encode() + b" WHERE false")

    async with make_pool(parameters, max_size=1, wait=timedelta(seconds=5), held=lambda: held.epoch) as pool:
        for statement in FENCED[unit]:
            await write(pool, statement)
        async with owner_connection.transaction():
            await PostgresColourDesk(owner_connection).move(role, Colour.BLUE, REASON)
        for stale, statement in itertools.product((0, 2, None), FENCED[unit]):
            held.epoch = stale
            with pytest.raises(psycopg.OperationalError, match=f"of {role} is not held: it is in epoch 1") as refused:
                await write(pool, statement)
            assert refused.value.sqlstate == EPOCH_OVER, statement
        held.epoch = 1
        for statement in FENCED[unit]:
            await write(pool, statement)


async def test_a_session_of_a_release_without_roles_is_not_asked(
    open_pool: OpenPool, owner_connection: Connection
) -> None:
    async with owner_connection.transaction():
        await PostgresColourDesk(owner_connection).move("relay", Colour.BLUE, REASON)

    async with (await open_pool("relay")).connection() as connection:
        await connection.execute("UPDATE cpq.outbox_event SET last_error = NULL WHERE false")


async def test_a_frozen_batch_of_the_former_colour_is_published_and_marked_by_the_other(
    open_pool: OpenPool,
    kafka: Kafka,
    start_unit: StartUnit,
    owner_connection: Connection,
    operator: Operator,
    *,
    tenant: str,
) -> None:
    api = await open_pool("api")
    orders = [uuid.uuid4() for _ in range(60)]

    async def commit(seq: int) -> None:
        for order in orders:
            await commit_events(api, tenant, [order_event(tenant, order, seq)])

    blue = await asyncio.to_thread(
        start_unit("relay", "relay-blue", APP_COLOUR="blue", RELAY_LEASE_DURATION="PT5M").wait_ready
    )
    assert (await flip_relay(operator, "blue")).changes == ["relay: none to blue, epoch 0 to 1"]
    refused = await flip_relay(operator, "green")
    assert refused.problems == ("relay: no live process of green is registered; start one before",)
    green = await asyncio.to_thread(start_unit("relay", "relay-green", APP_COLOUR="green").wait_ready)
    assert (await flip_relay(operator, "green", "--plan")).exit_code == 3
    await until_works(blue, "blue")
    await commit(1)
    await all_published(owner_connection, tenant)
    assert (green.metric("cpq_relay_published_total"), green.metric("cpq_relay_shards")) == (0, 0)
    await until_counted(blue, len(orders))

    async with watching(await open_pool("relay"), owner_connection) as watch, owner_connection.transaction():
        await owner_connection.execute("SELECT FROM cpq.relay_shard_lease WHERE owner = 'relay-blue' FOR UPDATE")
        await commit(2)

        async def is_sent() -> bool:
            return await watch.waits("relay-blue", SETTLES)

        await eventually(is_sent, "blue has Kafka's word on a batch and is about to mark it")
        blue.freeze()
    assert (await flip_relay(operator, "green")).changes == ["relay: blue to green, epoch 1 to 2"]
    blue.thaw()
    await all_published(owner_connection, tenant)
    await until_works(green, "green")

    assert not works(blue, "blue")
    await until_counted(green, len(orders))
    assert blue.metric("cpq_relay_published_total") == len(orders)
    assert any("epoch 1 of relay is not held: it is in epoch 2" in line.get("reason", "") for line in blue.lines)

    async def says_so() -> bool:
        return blue.status.startswith("standing by: green works, epoch 2")

    await eventually(says_so, "blue says that it stands by")
    seen: dict[UUID, list[int]] = defaultdict(list)
    for one in await asyncio.to_thread(kafka.records, TOPIC):
        sequence, order = cloudevents.decode(one.headers).sequence, UUID((one.key or b"").decode())
        if order in orders and sequence not in seen[order]:
            seen[order].append(sequence)
    assert seen == {order: [1, 2] for order in orders}

    shown = (await operator.run("epoch", "show")).data["roles"]["relay"]
    assert (shown["epoch"], shown["colour"], shown["by"], shown["reason"]) == (2, "green", "ana", REASON.text)
    assert {(one["instance"], one["does"]) for one in shown["processes"]} == {
        ("relay-blue", "stands by"),
        ("relay-green", "works"),
    }
    cursor = await owner_connection.execute(
        "SELECT operator, reason, detail FROM cpq.admin_run WHERE command = 'epoch flip' AND outcome = 'succeeded'"
        " ORDER BY started_at DESC LIMIT 1"
    )
    run = await cursor.fetchone()
    assert run is not None
    assert (run["operator"], run["reason"]) == ("ana", REASON.text)
    assert run["detail"]["flips"] == ["relay: blue to green, epoch 1 to 2"]


async def test_a_flip_waits_for_a_transaction_that_is_under_way_and_says_whose_it_is(
    open_pool: OpenPool, start_unit: StartUnit, owner_connection: Connection, operator: Operator, tenant: str
) -> None:
    """The former colour stands still within its transaction until the server ends it: only then is its epoch over."""
    blue = await asyncio.to_thread(start_unit("relay", "relay-blue", APP_COLOUR="blue").wait_ready)
    green = await asyncio.to_thread(start_unit("relay", "relay-green", APP_COLOUR="green").wait_ready)
    await flip_relay(operator, "blue")
    await until_works(blue, "blue")
    blue.freeze()
    order = uuid.uuid4()
    await commit_events(await open_pool("api"), tenant, [order_event(tenant, order, 1)])
    async with watching(await open_pool("relay"), owner_connection) as watch:
        await watch.freeze_in(
            blue,
            "relay-blue",
            MARKS,
            "SELECT FROM cpq.outbox_event WHERE tenant_id = %s AND state = 'pending' FOR UPDATE",
            tenant,
        )

    [problem] = (await flip_relay(operator, "green")).problems
    assert problem.startswith("relay: a transaction of relay-blue/")

    async def flipped() -> bool:
        return (await flip_relay(operator, "green")).changed

    await eventually(flipped, "the server ended the transaction that stood still", 30)
    blue.thaw()
    await until_works(green, "green")
    await all_published(owner_connection, tenant)
    await until_counted(green, 1)


async def test_an_uncoloured_deployment_hands_over_to_a_colour_and_takes_back(
    open_pool: OpenPool, start_unit: StartUnit, owner_connection: Connection, operator: Operator, tenant: str
) -> None:
    api = await open_pool("api")
    plain = await asyncio.to_thread(start_unit("relay", "relay-1").wait_ready)
    green = await asyncio.to_thread(start_unit("relay", "relay-green", APP_COLOUR="green").wait_ready)
    assert works(plain, "none")

    await flip_relay(operator, "green")
    await until_works(green, "green")
    await commit_events(api, tenant, [order_event(tenant, uuid.uuid4(), 1)])
    await all_published(owner_connection, tenant)
    await flip_relay(operator, "none")
    await until_works(plain, "none")
    await commit_events(api, tenant, [order_event(tenant, uuid.uuid4(), 1)])
    await all_published(owner_connection, tenant)

    for relay in (green, plain):
        await until_counted(relay, 1)


async def test_of_two_operators_who_flip_at_once_each_begins_an_epoch_of_its_own(
    open_pool: OpenPool, start_unit: StartUnit
) -> None:
    await asyncio.to_thread(start_unit("relay", "relay-blue", APP_COLOUR="blue").wait_ready)
    await asyncio.to_thread(start_unit("relay", "relay-green", APP_COLOUR="green").wait_ready)
    pool = await open_pool("admin")

    async def change(to: Colour) -> Flip:
        async with pool.connection() as connection, connection.transaction():
            [done] = await flip(PostgresColourDesk(connection), ["relay"], to, REASON)
            return done

    done = await asyncio.gather(change(Colour.BLUE), change(Colour.GREEN))
    first, second = sorted(done, key=lambda each: each.after.epoch)
    assert (first.before, first.after) == (RoleEpoch(), RoleEpoch(1, first.after.colour))
    assert (second.before, second.after.epoch) == (first.after, 2)
