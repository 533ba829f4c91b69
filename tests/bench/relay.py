"""`make bench-relay`: events per second through the relay, beside a plain producer loop on the same broker in the same run.

The loop is the limit: the same client and settings send the same records, which an inbox takes for repetitions, and nothing is read from or written to a
database. Each repetition measures the loop and then the relay, which drains an outbox filled beforehand; the median of
the ratios counts. Times go to the terminal and are recorded by hand in docs/benchmarks.md. It runs against an
environment for tests that is up (`make bench-relay ENV=name`), whose own relay rests meanwhile; its consumers read the
events afterwards, as those of a tenant of the benchmark's own.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

import psycopg
from kafka import KafkaProducer

from app.adapters.kafka.connection import KafkaConnection
from app.adapters.postgres.pool import Pool, connection_parameters, make_pool
from app.messaging import cloudevents
from app.messaging.envelope import Envelope
from tests.support.event_unit import EventUnit
from tests.support.events import commit_events, order_event
from tests.support.released_host import find_host
from tests.support.services import PORTS, Services

RELAY_UNIT = "cpq-oms-relay.service"
EVENTS_PER_ORDER = 3
AT_ONCE = 300


def make_events(tenant: str, orders: int) -> list[list[Envelope]]:
    """Return the events of so many orders: all first ones, then all second ones, as a busy day would mix them."""
    ids = [uuid.uuid4() for _ in range(orders)]
    return [[order_event(tenant, order, seq) for order in ids] for seq in range(1, EVENTS_PER_ORDER + 1)]


def produce(connection: KafkaConnection, events: Sequence[Envelope]) -> float:
    """Send records in a plain loop and wait for the broker's word on all; return events per second."""
    producer = KafkaProducer(
        **connection.options(), acks="all", enable_idempotence=True, allow_auto_create_topics=False
    )
    try:
        producer.partitions_for(events[0].topic)
        started = time.monotonic()
        for event in events:
            producer.send(
                event.topic,
                key=event.partition_key.encode(),
                value=event.payload.encode(),
                headers=cloudevents.encode(event),
            )
        producer.flush(120)
        return len(events) / (time.monotonic() - started)
    finally:
        producer.close()


async def drain(services: Services, pool: Pool, tenant: str, count: int, batch_size: int) -> float:
    """Start the relay on a full outbox; return events per second from READY until the last one is marked."""
    relay = EventUnit(
        "relay",
        {
            "APP_INSTANCE_ID": "bench-relay",
            "DB_URL": services.database_url("relay"),
            "DB_STATEMENT_TIMEOUT": "PT5S",
            "KAFKA_BOOTSTRAP_SERVERS": services.address("kafka"),
            "KAFKA_USERNAME": "relay",
            "RELAY_BATCH_SIZE": str(batch_size),
            "RELAY_POLL_INTERVAL": "PT1S",
            "RELAY_LEASE_DURATION": "PT30S",
        },
        {
            "db-password": services.secret("db_relay_password"),
            "kafka-password": services.secret("kafka_relay_password"),
        },
    )
    try:
        await asyncio.to_thread(relay.wait_ready)
        started = time.monotonic()
        async with pool.connection() as connection:
            while True:
                cursor = await connection.execute(
                    "SELECT count(*) AS waiting FROM cpq.outbox_event WHERE tenant_id = %s AND state <> 'published'",
                    (tenant,),
                )
                row = await cursor.fetchone()
                if row is not None and row["waiting"] == 0:
                    return count / (time.monotonic() - started)
                await asyncio.sleep(0.2)
    finally:
        relay.stop()
        relay.close()


async def measure(services: Services, orders: int, batch_size: int) -> tuple[float, float]:
    """Return the events per second of the plain loop and of the relay, for the same events."""
    tenant = f"bench-{uuid.uuid4().hex[:12]}"
    events = make_events(tenant, orders)
    with psycopg.connect(
        services.database_url("admin"), password=services.secret("db_admin_password"), autocommit=True
    ) as admin:
        admin.execute(
            "INSERT INTO cpq.tenant (tenant_id, display_name, default_currency) VALUES (%s, %s, 'EUR')",
            (tenant, tenant),
        )
    pools = {
        unit: make_pool(
            connection_parameters(
                services.database_url(unit),
                services.secret(f"db_{unit}_password"),
                application_name="bench",
                statement_timeout=timedelta(seconds=30),
            ),
            max_size=2,
            wait=timedelta(seconds=10),
        )
        for unit in ("api", "admin")
    }
    async with pools["api"], pools["admin"]:
        for same_step in events:
            for start in range(0, len(same_step), AT_ONCE):
                await commit_events(pools["api"], tenant, same_step[start : start + AT_ONCE])
        flat = [event for same_step in events for event in same_step]
        connection = KafkaConnection(
            [services.address("kafka")], "relay", services.secret("kafka_relay_password"), "bench-loop"
        )
        loop = await asyncio.to_thread(produce, connection, flat)
        return loop, await drain(services, pools["admin"], tenant, len(flat), batch_size)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-relay", description=__doc__)
    parser.add_argument(
        "--orders", type=int, default=5000, help=f"orders per repetition, {EVENTS_PER_ORDER} events each"
    )
    parser.add_argument("--batch-size", type=int, default=200, help="RELAY_BATCH_SIZE, as the inventories have it")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; the median of the ratios counts")
    arguments = parser.parse_args()
    host = find_host()
    services = Services(host.environment, {name: f"{host.address}:{port}" for name, port in PORTS.items()})
    host.run(f"systemctl stop {RELAY_UNIT}")
    try:
        rows = [
            asyncio.run(measure(services, arguments.orders, arguments.batch_size)) for _ in range(arguments.repeats)
        ]
    finally:
        host.run(f"systemctl start {RELAY_UNIT}")
    print(f"{'repetition':<12}{'loop events/s':>16}{'relay events/s':>17}{'of loop':>10}")
    for number, (loop, relay) in enumerate(rows, 1):
        print(f"{number:<12}{loop:>16.0f}{relay:>17.0f}{relay / loop:>10.2f}")
    median = sorted(relay / loop for loop, relay in rows)[len(rows) // 2]
    print(f"{'median':<12}{'':>16}{'':>17}{median:>10.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
