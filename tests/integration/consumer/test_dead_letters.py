"""Events that cannot be applied: parked with their aggregate, given up on, published, and replayed in order."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from dataclasses import replace
from uuid import UUID

import pytest

from app.adapters.postgres.dead_letter_desk import PostgresDeadLetterDesk
from app.adapters.postgres.pool import Connection
from app.application.dead_letters import Decision, decide
from app.application.repair import RepairReason, RepairRefusedError
from app.contracts.loader import load_consumer_groups
from app.messaging.inbox import Record
from app.runtime.ids import UuidV7Ids
from tests.support.consumers import position, record, rows, write
from tests.support.event_fixtures import StartUnit
from tests.support.events import TOPIC, order_event
from tests.support.kafka import Kafka
from tests.support.operator import Operator
from tests.support.waiting import eventually

GROUP = "order-projection"
LIMIT = load_consumer_groups()[GROUP].dead_letter_limit

pytestmark = pytest.mark.usefixtures("at_the_end")


def unreadable(envelope_record: Record) -> Record:
    return replace(envelope_record, value=b'{"eventId": 1}')


async def letters(connection: Connection) -> list[tuple[str, str, str]]:
    found = await rows(
        connection,
        "SELECT state, error_code, error_category FROM cpq.dead_letter WHERE consumer_group = %s ORDER BY failed_at",
        GROUP,
    )
    return [(row["state"], row["error_code"], row["error_category"]) for row in found]


async def letter_id(connection: Connection) -> UUID:
    [row] = await rows(connection, "SELECT dead_letter_id FROM cpq.dead_letter WHERE consumer_group = %s", GROUP)
    found: UUID = row["dead_letter_id"]
    return found


async def projected(connection: Connection, order: UUID) -> tuple[str, str, int] | None:
    found = await rows(connection, "SELECT * FROM cpq.order_projection WHERE order_id = %s", order)
    return (found[0]["tenant_id"], found[0]["state"], found[0]["applied_seq"]) if found else None


async def until_projected(connection: Connection, order: UUID, expected: tuple[str, str, int]) -> None:
    async def done() -> bool:
        return await projected(connection, order) == expected

    await eventually(done, f"order {order} is projected as {expected}")


async def until_letter(connection: Connection, expected: tuple[str, str, str]) -> None:
    async def is_there() -> bool:
        return await letters(connection) == [expected]

    await eventually(is_there, f"there is one dead letter, {expected}")


async def an_operator_decides(connection: Connection, letter: UUID, decision: Decision) -> bool:
    reason = RepairReason("tests", "the cause was mended, see the test")
    async with connection.transaction():
        return await decide(PostgresDeadLetterDesk(connection, UuidV7Ids()), letter, decision, reason)


async def test_a_failing_order_is_parked_alone_given_up_published_and_replayed_in_order(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, admin_connection: Connection, tenant: str
) -> None:
    bad, good = uuid.uuid4(), uuid.uuid4()
    # The order's row belongs to somebody else: every event of it is refused by row-level security.
    await owner_connection.execute(
        "INSERT INTO cpq.order_projection (order_id, tenant_id, state, applied_seq, updated_at) "
        "VALUES (%s, 'stranger', 'held', 0, now())",
        (bad,),
    )
    first_offset = await position(owner_connection, GROUP, 0)
    events = [record(order_event(tenant, bad, seq)) for seq in (1, 2, 3)]
    consumer = start_unit("consumer", "consumer-1").wait_ready()
    await write(
        kafka, events[0], record(order_event(tenant, good, 1)), *events[1:], record(order_event(tenant, good, 2))
    )

    # All others flow at once, whatever becomes of the bad one.
    await until_projected(owner_connection, good, (tenant, "inProgress", 2))
    await until_letter(owner_connection, ("open", "sqlstate-42501", "refused"))
    assert await position(owner_connection, GROUP, 0) == first_offset + 5

    async def is_published() -> bool:
        return bool(await rows(owner_connection, "SELECT 1 FROM cpq.dead_letter WHERE published_at IS NOT NULL"))

    await eventually(is_published, "the dead letter is in its topic")
    letter = await letter_id(owner_connection)
    published = [
        json.loads(item.value or b"")
        for item in await asyncio.to_thread(kafka.records, f"{TOPIC}.dlq")
        if str(letter).encode() == dict(item.headers)["ce_id"]
    ]
    assert len(published) == 1
    told = published[0]
    assert (told["originalTopic"], told["originalPartition"], told["originalOffset"]) == (TOPIC, 0, first_offset)
    assert told["eventId"] == json.loads(events[0].value or b"")["eventId"]
    assert (told["errorCode"], told["errorCategory"]) == ("sqlstate-42501", "refused")
    assert (told["consumer"], told["retryCount"], told["tenantId"]) == (GROUP, 4, tenant)
    assert told["failedAt"]
    assert base64.b64decode(told["payload"]["value"]) == events[0].value
    assert str(letter) in told["replay"]

    async def says_so() -> bool:
        return (
            "1 aggregates parked, 1 dead letters" in consumer.status
            and consumer.metric(f'cpq_consumer_parked_aggregates{{group="{GROUP}"}}') == 1
            and (consumer.metric(f'cpq_consumer_oldest_parked_age_seconds{{group="{GROUP}"}}') or 0) > 0
        )

    await eventually(says_so, "STATUS and metrics tell of it")

    await owner_connection.execute("DELETE FROM cpq.order_projection WHERE order_id = %s", (bad,))
    assert await an_operator_decides(admin_connection, letter, "replaying")
    assert not await an_operator_decides(admin_connection, letter, "replaying")

    await until_projected(owner_connection, bad, (tenant, "completed", 3))
    assert await letters(owner_connection) == [("replayed", "sqlstate-42501", "refused")]
    with pytest.raises(RepairRefusedError, match="nothing is left to decide"):
        await an_operator_decides(admin_connection, letter, "discarded")
    applied = await rows(
        owner_connection,
        "SELECT kafka_offset FROM cpq.inbox_event WHERE consumer_group = %s AND tenant_id = %s ORDER BY processed_at, kafka_offset",
        GROUP,
        tenant,
    )
    own = [row["kafka_offset"] for row in applied if row["kafka_offset"] - first_offset in {0, 2, 3}]
    assert own == [first_offset, first_offset + 2, first_offset + 3]
    audited = await rows(owner_connection, "SELECT action FROM cpq.audit_entry WHERE target_id = %s", str(letter))
    assert [row["action"] for row in audited] == ["deadLetter.replay"]


async def test_an_unreadable_event_is_nobodys_and_may_be_discarded(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, admin_connection: Connection, tenant: str
) -> None:
    order = uuid.uuid4()
    start_unit("consumer", "consumer-1").wait_ready()
    await write(kafka, unreadable(record(order_event(tenant, order, 1))), record(order_event(tenant, order, 2)))
    await until_letter(owner_connection, ("open", "unreadable", "malformed"))

    letter = await letter_id(owner_connection)
    desk = PostgresDeadLetterDesk(admin_connection, UuidV7Ids())

    async def one_waits() -> bool:
        shown = await desk.shown(letter)
        return shown is not None and shown["waiting_events"] == 1

    await eventually(one_waits, "the event behind it waits")
    shown = await desk.shown(letter)
    assert shown is not None
    assert (shown["tenant_id"], shown["event"]["value"]) == ("?", '{"eventId": 1}')
    assert await projected(owner_connection, order) is None

    assert await an_operator_decides(admin_connection, letter, "discarded")

    await until_projected(owner_connection, order, (tenant, "inProgress", 2))
    assert await letters(owner_connection) == [("discarded", "unreadable", "malformed")]


async def test_too_many_failures_stop_the_partition_and_pour_nothing_more_into_dead_letters(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, tenant: str, operator: Operator
) -> None:
    start = await position(owner_connection, GROUP, 0)
    bad = [unreadable(record(order_event(tenant, uuid.uuid4(), 1))) for _ in range(LIMIT + 5)]
    elsewhere = uuid.uuid4()
    consumer = start_unit("consumer", "consumer-1").wait_ready()
    await write(kafka, *bad, record(order_event(tenant, elsewhere, 1), 1))

    await until_projected(owner_connection, elsewhere, (tenant, "acknowledged", 1))

    async def loud() -> bool:
        return (
            f"{TOPIC}[0] halted at offset {start + LIMIT}: {LIMIT} events failed" in consumer.status
            and consumer.metric(f'cpq_consumer_paused_partitions{{group="{GROUP}"}}') == 1
        )

    await eventually(loud, "STATUS and metric tell of it")
    assert len(await letters(owner_connection)) == LIMIT
    assert await position(owner_connection, GROUP, 0) == start + LIMIT

    # An hour later, and after a restart, nobody has decided anything yet.
    await owner_connection.execute(
        "UPDATE cpq.consumer_parked_event SET parked_at = parked_at - interval '1 hour' WHERE consumer_group = %s",
        (GROUP,),
    )
    await owner_connection.execute(
        "UPDATE cpq.consumer_halt SET halted_at = halted_at - interval '1 hour' WHERE consumer_group = %s", (GROUP,)
    )
    await asyncio.to_thread(consumer.stop)
    consumer = start_unit("consumer", "consumer-1").wait_ready()
    await eventually(loud, "STATUS and metric tell of it again")
    await asyncio.sleep(3)
    assert await position(owner_connection, GROUP, 0) == start + LIMIT

    reason = "the release that could not read them is gone"
    done = await operator.run("consumers", "acknowledge", GROUP, "--reason", reason)

    assert done.changes == [f"{GROUP} goes on in {TOPIC}[0]"]

    async def goes_on() -> bool:
        return await position(owner_connection, GROUP, 0) == start + LIMIT + 5

    await eventually(goes_on, "the partition is read to its end", 70)
    assert len(await letters(owner_connection)) == LIMIT + 5
    [run] = await rows(
        owner_connection,
        "SELECT operator, detail FROM cpq.admin_run WHERE command = 'consumers acknowledge' AND reason = %s "
        "ORDER BY started_at DESC LIMIT 1",
        reason,
    )
    assert (run["operator"], run["detail"]) == ("ana", {"group": GROUP, "partitions": [f"{TOPIC}[0]"]})


async def test_an_operator_replays_a_dead_letter_and_the_run_is_audited(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, tenant: str, operator: Operator
) -> None:
    order = uuid.uuid4()
    await owner_connection.execute(
        "INSERT INTO cpq.order_projection (order_id, tenant_id, state, applied_seq, updated_at) "
        "VALUES (%s, 'stranger', 'held', 0, now())",
        (order,),
    )
    start_unit("consumer", "consumer-1").wait_ready()
    await write(kafka, record(order_event(tenant, order, 1)), record(order_event(tenant, order, 2)))
    await until_letter(owner_connection, ("open", "sqlstate-42501", "refused"))
    letter = await letter_id(owner_connection)
    await owner_connection.execute("DELETE FROM cpq.order_projection WHERE order_id = %s", (order,))
    [told] = (await operator.run("dead-letters", "list", "--group", GROUP)).data["dead_letters"]
    assert told["dead_letter_id"] == letter
    words = ("dead-letters", "replay", str(letter), "--reason", "the stranger's row is gone, ticket 4711")

    replayed, repeated = await operator.run(*words), await operator.run(*words)

    assert (replayed.exit_code, replayed.changes) == (0, [f"replaying dead letter {letter}"])
    assert (repeated.exit_code, repeated.changed) == (0, False)
    await until_projected(owner_connection, order, (tenant, "inProgress", 2))
    assert await letters(owner_connection) == [("replayed", "sqlstate-42501", "refused")]
    runs = await rows(
        owner_connection,
        "SELECT operator, reason, outcome, detail FROM cpq.admin_run WHERE command = 'dead-letters replay' "
        "AND detail ->> 'dead_letter_id' = %s ORDER BY started_at",
        str(letter),
    )
    assert [(run["operator"], run["reason"], run["outcome"], run["detail"]["is_new"]) for run in runs] == [
        ("ana", words[-1], "succeeded", True),
        ("ana", words[-1], "succeeded", False),
    ]
