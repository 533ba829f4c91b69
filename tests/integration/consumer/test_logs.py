"""Logs as nobody wishes them, each a topic of the test's own: odd records, a log begun anew, events that are gone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from prometheus_client import CollectorRegistry

from app.adapters.kafka.consumer import KafkaEventSource
from app.adapters.postgres.consumer_operations import ConsumerOperations
from app.adapters.postgres.inbox import PostgresConsumerStore
from app.adapters.postgres.pool import Connection, Pool
from app.entrypoints.consumer.groups import order_projection
from app.entrypoints.consumer.loop import Consumer, GroupPolicy
from app.messaging.inbox import Partition, Record
from app.messaging.retry import Backoff
from app.runtime.clock import SystemClock
from app.runtime.ids import UuidV7Ids
from app.runtime.metrics import ConsumerMetrics
from app.runtime.shutdown import Shutdown
from tests.integration.conftest import OpenPool
from tests.support.colours import ColouredProcess
from tests.support.consumers import record, rows, write
from tests.support.events import order_event
from tests.support.kafka import Kafka
from tests.support.operator import Operator
from tests.support.waiting import eventually


class Notifier:
    """What the consumer says of itself."""

    feed_interval = None

    def __init__(self) -> None:
        self.text = ""

    def watchdog(self) -> None: ...

    def status(self, text: str) -> None:
        self.text = text


@dataclass
class Member:
    """A running member of the group."""

    notifier: Notifier
    shutdown: Shutdown
    task: asyncio.Task[None]
    source: KafkaEventSource

    async def until_status(self, part: str) -> None:
        async def says() -> bool:
            return part in self.notifier.text

        await eventually(says, f"STATUS has {part!r}", 40)

    async def stop(self) -> None:
        self.shutdown.request()
        await self.task
        await self.source.close()


@dataclass
class Log:
    """A topic with two partitions and a group that projects its events."""

    kafka: Kafka
    client: KafkaAdminClient
    topic: str
    group: str
    connection: Connection
    tenant: str

    def create(self) -> None:
        self.client.create_topics({self.topic: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)

    def record(self, order: UUID, partition: int) -> Record:
        return record(order_event(self.tenant, order, 1, topic=self.topic), partition)

    async def write(self, *places: int) -> list[UUID]:
        """Write an event of a new order to each of these partitions, and return the orders."""
        orders = [uuid.uuid4() for _ in places]
        await write(self.kafka, *(self.record(order, place) for order, place in zip(orders, places, strict=True)))
        return orders

    async def applied(self) -> set[UUID]:
        found = await rows(
            self.connection, "SELECT order_id FROM cpq.order_projection WHERE tenant_id = %s", self.tenant
        )
        return {row["order_id"] for row in found}

    async def until_applied(self, orders: list[UUID]) -> None:
        async def done() -> bool:
            return await self.applied() == set(orders)

        await eventually(done, f"{len(orders)} orders are projected", 40)

    async def move(self, partition: int, offset: int) -> None:
        async with self.connection.transaction():
            await ConsumerOperations(self.connection).move(self.group, Partition(self.topic, partition), offset)


@pytest.fixture
async def log(kafka: Kafka, owner_connection: Connection, tenant: str) -> AsyncIterator[Log]:
    client = KafkaAdminClient(**kafka.connection("admin").options())
    name = uuid.uuid4().hex[:8]
    made = Log(kafka, client, f"test.order{name}.events.v1", f"test-{name}", owner_connection, tenant)
    await asyncio.to_thread(made.create)
    yield made
    await asyncio.to_thread(client.delete_topics, [made.topic])
    client.close()
    for table in ("consumer_offset", "consumer_halt", "consumer_parked_event", "dead_letter", "inbox_event"):
        await owner_connection.execute(f"DELETE FROM cpq.{table} WHERE consumer_group = %s", (made.group,))


StartMember = Callable[[str], Awaitable[Member]]


@pytest.fixture
async def start_member(log: Log, open_pool: OpenPool) -> AsyncIterator[StartMember]:
    """Starts a member of the group in this process."""
    started: list[Member] = []
    pool: Pool = await open_pool("consumer")

    async def nothing() -> None: ...

    async def start(name: str) -> Member:
        notifier, shutdown = Notifier(), Shutdown()
        consumer = Consumer(
            group=replace(order_projection.group(), name=log.group),
            policy=GroupPolicy(3, Backoff(0.1, 0.5), dead_letter_limit=20, dead_letter_window=timedelta(minutes=10)),
            store=PostgresConsumerStore(pool, log.group, UuidV7Ids()),
            standing=ColouredProcess(SystemClock(), role=f"consumer@{log.group}").standing,
            publish_dead_letters=nothing,
            chores=[],
            ids=UuidV7Ids(),
            shutdown=shutdown,
            metrics=ConsumerMetrics(CollectorRegistry(), log.group),
            notifier=notifier,  # type: ignore[arg-type]  # what the loop calls
            clock=SystemClock(),
            halt_backoff=Backoff(0.2, 1),
            outage_backoff=Backoff(0.2, 1),
        )
        source = KafkaEventSource(
            log.kafka.connection("admin"),
            group=log.group,
            member=name,
            topics=[log.topic],
            batch_size=50,
            load_positions=consumer.load_positions,
        )
        member = Member(notifier, shutdown, asyncio.create_task(consumer.run(source)), source)
        started.append(member)
        return member

    yield start
    for member in started:
        if not member.shutdown.requested:
            await member.stop()


class NotUtf8(str):
    """A header's name as only another client would write it."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"\xff\xfe"


async def test_records_that_nobody_should_have_written_are_dead_letters_and_the_others_flow(
    log: Log, start_member: StartMember, operator: Operator
) -> None:
    order = uuid.uuid4()
    sound = log.record(order, 0)
    nameless = tuple((name, None if name == "ce_id" else value) for name, value in sound.headers)
    odd = [
        replace(sound, key=key, value=value, headers=headers)
        for key, value, headers in (
            (b"odd-1", b"{}", nameless),
            (b"odd-2", None, nameless),
            (None, b"{}", (("ce_specversion", None), ("", None))),
            (None, None, nameless),
            (b"k" * 5000, None, nameless),
        )
    ]
    await asyncio.to_thread(log.kafka.write_as_others_do, [*odd, sound])
    await start_member("one")

    await log.until_applied([order])

    letters = await rows(
        log.connection, "SELECT * FROM cpq.dead_letter WHERE consumer_group = %s ORDER BY kafka_offset", log.group
    )
    assert [row["kafka_offset"] for row in letters] == list(range(len(odd)))
    assert {(row["error_category"], row["tenant_id"], row["event_id"]) for row in letters} == {("malformed", "?", None)}
    shown = await operator.run("dead-letters", "show", str(letters[2]["dead_letter_id"]))
    assert shown.data["event"] == {"key": None, "value": "{}", "headers": {"ce_specversion": None, "": None}}
    done = await operator.run(
        "dead-letters", "replay", str(letters[3]["dead_letter_id"]), "--reason", "looked at again"
    )
    assert done.exit_code == 0

    async def failed_again() -> bool:
        [row] = await rows(
            log.connection,
            "SELECT state, retry_count FROM cpq.dead_letter WHERE dead_letter_id = %s",
            letters[3]["dead_letter_id"],
        )
        return (row["state"], row["retry_count"]) == ("open", 1)

    await eventually(failed_again, "the row holds the same record, which fails again")


async def test_a_header_name_that_is_not_utf_8_halts_its_partition_and_the_others_flow(
    log: Log, start_member: StartMember
) -> None:
    member = await start_member("one")
    [before] = await log.write(0)
    poison = log.record(uuid.uuid4(), 0)
    await write(log.kafka, replace(poison, headers=(*poison.headers, (NotUtf8("x"), b"1"))))
    [behind] = await log.write(0)

    await member.until_status(f"{log.topic}[0] halted at offset 1: Kafka's client cannot read this record")
    elsewhere = await log.write(1, 1, 1)
    await log.until_applied([before, *elsewhere])
    assert f"{log.topic}[0] halted at offset 1" in member.notifier.text

    await log.move(0, 2)
    await log.until_applied([before, behind, *elsewhere])


async def test_a_halt_outlives_rebalances_and_is_lifted_wherever_the_partition_is_then(
    log: Log, start_member: StartMember
) -> None:
    await log.move(0, 1000)
    first = await start_member("one")
    halted = f"{log.topic}[0] halted at offset 1000"
    await first.until_status(halted)
    await first.until_status("reading 2 partitions")

    second = await start_member("two")
    await second.until_status("reading 1 partitions")
    await first.until_status("reading 1 partitions")
    owner = first if log.topic + "[0]" in first.notifier.text else second
    assert halted in owner.notifier.text

    await log.move(0, 0)
    orders = await log.write(0, 1)
    await log.until_applied(orders)
    assert "halted" not in first.notifier.text + second.notifier.text


async def test_a_log_begun_anew_is_not_read_from_the_middle_however_long_it_grows(
    log: Log, start_member: StartMember
) -> None:
    old = await log.write(0, 0, 0)
    member = await start_member("one")
    await log.until_applied(old)
    await member.stop()
    await asyncio.to_thread(log.client.delete_topics, [log.topic])
    await asyncio.to_thread(_create_when_gone, log)

    member = await start_member("one")
    await member.until_status(f"{log.topic}[0] halted at offset 3: Kafka does not have this offset")
    new = await log.write(*[0] * 5)
    await asyncio.sleep(3)  # several tries: this partition rests for a second at most
    assert await log.applied() == set(old)
    await member.stop()
    member = await start_member("one")
    await member.until_status(f"{log.topic}[0] halted at offset 3")

    await log.move(0, 0)
    await log.until_applied([*old, *new])


async def test_a_first_read_where_events_are_gone_halts_until_somebody_says_where_to_begin(
    log: Log, start_member: StartMember
) -> None:
    [_, kept, elsewhere] = await log.write(0, 0, 1)
    await asyncio.to_thread(log.client.delete_records, {TopicPartition(log.topic, 0): 1})

    member = await start_member("one")

    await member.until_status(f"{log.topic}[0] halted at offset 0: Kafka does not have this offset")
    await log.until_applied([elsewhere])
    await log.move(0, 1)
    await log.until_applied([kept, elsewhere])


def _create_when_gone(log: Log) -> None:
    for _ in range(50):
        if log.topic not in {known["name"] for known in log.client.describe_topics()}:
            break
    log.create()
