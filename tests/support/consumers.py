"""A consumer group under test between a real broker and a real database: its position, its records, its rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from app.adapters.postgres.pool import Connection
from app.contracts.loader import load_topics
from app.messaging import cloudevents
from app.messaging.envelope import Envelope
from app.messaging.inbox import Partition, Record
from tests.support.events import TOPIC
from tests.support.kafka import Kafka

PARTITIONS = load_topics()[TOPIC].partitions


async def go_to_the_end(kafka: Kafka, connection: Connection, group: str) -> None:
    """Let a group have read everything there is and have nothing set aside: the next records are a test's own."""
    topics = [topic.name for topic in load_topics().values() if group in topic.consumer_groups]
    ends: dict[Partition, int] = {}
    for topic in topics:
        ends |= {Partition(topic, number): 0 for number in range(load_topics()[topic].partitions)}
        for known in await asyncio.to_thread(kafka.records, topic):
            ends[known.partition] = known.offset + 1
    async with connection.transaction():
        for table in ("consumer_offset", "consumer_halt", "consumer_parked_event", "dead_letter"):
            await connection.execute(f"DELETE FROM cpq.{table} WHERE consumer_group = %s", (group,))
        for partition, end in ends.items():
            await connection.execute(
                "INSERT INTO cpq.consumer_offset (consumer_group, topic, kafka_partition, next_offset) "
                "VALUES (%s, %s, %s, %s)",
                (group, partition.topic, partition.number, end),
            )


def record(envelope: Envelope, partition: int = 0, *, header_tenant: str | None = None) -> Record:
    """An event as the relay would write it; `header_tenant` makes its header say another tenant than its payload."""
    headers = cloudevents.encode(replace(envelope, tenant_id=header_tenant or envelope.tenant_id))
    return Record(
        Partition(envelope.topic, partition),
        0,
        envelope.partition_key.encode(),
        envelope.payload.encode(),
        tuple(headers),
    )


async def write(kafka: Kafka, *records: Record) -> None:
    """Write records to the partitions they name."""
    await asyncio.to_thread(kafka.write, list(records))


async def rows(connection: Connection, statement: str, *values: object) -> list[dict[str, Any]]:
    """All rows of a query."""
    cursor = await connection.execute(statement, values)
    return await cursor.fetchall()


async def position(connection: Connection, group: str, partition: int) -> int:
    """Where a group goes on in a partition of the order events."""
    [row] = await rows(
        connection,
        "SELECT next_offset FROM cpq.consumer_offset WHERE consumer_group = %s AND topic = %s AND kafka_partition = %s",
        group,
        TOPIC,
        partition,
    )
    return int(row["next_offset"])
