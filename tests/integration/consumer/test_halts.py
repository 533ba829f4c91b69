"""A partition of a process that rests until an operator decides, by the operator's own commands."""

from __future__ import annotations

import uuid
from uuid import UUID

import pytest

from app.adapters.postgres.pool import Connection
from app.messaging.inbox import Record
from tests.support.consumers import position, record, rows, write
from tests.support.event_fixtures import StartUnit
from tests.support.event_unit import EventUnit
from tests.support.events import TOPIC, order_event
from tests.support.kafka import Kafka
from tests.support.operator import Operator
from tests.support.waiting import eventually

GROUP = "order-projection"
REASON = ("--reason", "decided by the test of halts")

pytestmark = pytest.mark.usefixtures("at_the_end")


def in_partition(tenant: str, order: UUID, seq: int, partition: int) -> Record:
    return record(order_event(tenant, order, seq), partition)


async def applied(connection: Connection, tenant: str) -> dict[UUID, int]:
    found = await rows(
        connection, "SELECT order_id, applied_seq FROM cpq.order_projection WHERE tenant_id = %s", tenant
    )
    return {row["order_id"]: row["applied_seq"] for row in found}


async def until_applied(connection: Connection, tenant: str, expected: dict[UUID, int], seconds: float = 30) -> None:
    async def done() -> bool:
        return await applied(connection, tenant) == expected

    await eventually(done, f"{expected} is applied", seconds)


async def until_halted(unit: EventUnit, place: str, seconds: float = 30) -> None:
    async def loud() -> bool:
        return (
            f"{TOPIC}{place}" in unit.status and unit.metric(f'cpq_consumer_paused_partitions{{group="{GROUP}"}}') == 1
        )

    await eventually(loud, f"STATUS and metric say {place}", seconds)


async def move(connection: Connection, partition: int, offset: int) -> None:
    await connection.execute(
        "UPDATE cpq.consumer_offset SET next_offset = %s WHERE consumer_group = %s AND topic = %s AND kafka_partition = %s",
        (offset, GROUP, TOPIC, partition),
    )


async def test_a_lost_position_is_listed_and_ends_when_an_operator_moves_it(
    kafka: Kafka, start_unit: StartUnit, owner_connection: Connection, tenant: str, operator: Operator
) -> None:
    end = await position(owner_connection, GROUP, 0)
    await move(owner_connection, 0, end + 3)
    consumer = start_unit("consumer", "consumer-1").wait_ready()
    await until_halted(consumer, f"[0] halted at offset {end + 3}: Kafka does not have this offset")
    orders = [uuid.uuid4() for _ in range(6)]
    await write(kafka, *(in_partition(tenant, order, 1, 0) for order in orders))
    listed = await operator.run("consumers", "halts", "--group", GROUP)
    assert [(halt["kafka_partition"], halt["kind"], halt["stored_offset"]) for halt in listed.data["halts"]] == [
        (0, "position-lost", end + 3)
    ]

    words = ("consumers", "move", GROUP, TOPIC, "--partition", "0", *REASON, "--to")
    beyond = await operator.run(*words, str(end + 7))
    assert any(problem.endswith(f"up to {end + 6}, not {end + 7}") for problem in beyond.problems)
    assert (await operator.run(*words, str(end))).changes == [f"{GROUP} goes on in {TOPIC}[0] at {end}"]

    await until_applied(owner_connection, tenant, dict.fromkeys(orders, 1), 70)
    assert (await operator.run("consumers", "halts", "--group", GROUP)).data["halts"] == []
    [run] = await rows(
        owner_connection,
        "SELECT operator, reason, outcome, detail FROM cpq.admin_run WHERE command = 'consumers move' "
        "ORDER BY started_at DESC LIMIT 1",
    )
    assert (run["operator"], run["reason"], run["outcome"]) == ("ana", REASON[1], "succeeded")
    assert run["detail"]["moves"] == [{"partition": f"{TOPIC}[0]", "from": end + 3, "to": end}]


async def test_a_move_is_refused_where_the_group_does_not_read(operator: Operator) -> None:
    refused = await operator.run("consumers", "move", GROUP, "cpq.quote.events.v1", "--to", "newest", *REASON)

    assert list(refused.problems) == [f"group {GROUP} does not read cpq.quote.events.v1"]
