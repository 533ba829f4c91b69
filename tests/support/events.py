"""Events of orders that exist only as events: for tests of their transport."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from app.adapters.postgres.outbox import PostgresOutboxStore
from app.adapters.postgres.pool import Connection, Pool
from app.messaging.envelope import Envelope

TOPIC = "oms.order.events.v1"
STEPS = (("OrderAcknowledged", "acknowledged"), ("OrderInProgress", "inProgress"), ("OrderCompleted", "completed"))


def order_event(tenant_id: str, order_id: UUID, seq: int, *, topic: str = TOPIC, padding: int = 0) -> Envelope:
    """Return event 1, 2 or 3 of an order; `padding` makes its payload longer by so many characters."""
    event_id, now = uuid.uuid4(), datetime.now(UTC)
    event_type, state = STEPS[seq - 1]
    payload = {
        "eventId": str(event_id),
        "eventType": event_type,
        "tenantId": tenant_id,
        "orderId": str(order_id),
        "quoteId": str(order_id),
        "customerId": "customer-1" + "x" * padding,
        "aggregateSeq": seq,
        "state": state,
        "currency": "EUR",
        "totalOneTime": "49.90",
        "totalRecurring": "39.90",
        "occurredAt": now.isoformat(),
    }
    return Envelope(
        event_id=event_id,
        tenant_id=tenant_id,
        aggregate_type="order",
        aggregate_id=order_id,
        aggregate_seq=seq,
        event_type=event_type,
        topic=topic,
        partition_key=str(order_id),
        payload=json.dumps(payload),
        occurred_at=now,
    )


async def make_tenant(admin_connection: Connection, tenant_id: str) -> None:
    """Events belong to a tenant that exists."""
    await admin_connection.execute(
        "INSERT INTO cpq.tenant (tenant_id, display_name, default_currency) VALUES (%s, %s, 'EUR')",
        (tenant_id, tenant_id),
    )


async def append(connection: Connection, tenant_id: str, envelopes: Sequence[Envelope]) -> None:
    """Add events to the open transaction of a connection of the API's role."""
    await connection.execute("SELECT set_config('cpq.tenant_id', %s, true)", (tenant_id,))
    await PostgresOutboxStore(connection).append(envelopes)


async def commit_events(pool: Pool, tenant_id: str, envelopes: Sequence[Envelope]) -> None:
    """Add events in a transaction of their own."""
    async with pool.connection() as connection, connection.transaction():
        await append(connection, tenant_id, envelopes)


async def insert_silently(connection: Connection, envelope: Envelope) -> None:
    """Add an event as the API does, but without the notification that wakes the relay."""
    values = {name: getattr(envelope, name) for name in Envelope.__slots__} | {"shard": envelope.shard}
    columns, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    await connection.execute(f"INSERT INTO cpq.outbox_event ({columns}) VALUES ({places})", values)
