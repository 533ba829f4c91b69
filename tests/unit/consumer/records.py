"""Records as they come from Kafka, for the consumer's tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

from app.messaging import cloudevents
from app.messaging.envelope import Envelope
from app.messaging.inbox import Partition, Record

PARTITION = Partition("oms.order.events.v1", 0)
STATES = {
    1: ("OrderAcknowledged", "acknowledged"),
    2: ("OrderInProgress", "inProgress"),
    3: ("OrderCompleted", "completed"),
}


def record(
    *,
    order: int,
    seq: int,
    offset: int,
    tenant: str = "acme",
    header_tenant: str | None = None,
    partition: Partition = PARTITION,
) -> Record:
    event_type, state = STATES[seq]
    occurred_at = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
    payload = {
        "eventId": str(UUID(int=order * 1000 + seq)),
        "eventType": event_type,
        "tenantId": tenant,
        "orderId": str(UUID(int=order)),
        "quoteId": str(UUID(int=order + 500)),
        "customerId": "customer-1",
        "aggregateSeq": seq,
        "state": state,
        "currency": "EUR",
        "totalOneTime": "10.00",
        "totalRecurring": "1.50",
        "occurredAt": occurred_at.isoformat(),
    }
    envelope = Envelope(
        event_id=UUID(int=order * 1000 + seq),
        tenant_id=header_tenant or tenant,
        aggregate_type="product_order",
        aggregate_id=UUID(int=order),
        aggregate_seq=seq,
        event_type=event_type,
        topic=partition.topic,
        partition_key=str(UUID(int=order)),
        payload=json.dumps(payload),
        occurred_at=occurred_at,
    )
    return Record(
        partition,
        offset,
        envelope.partition_key.encode(),
        envelope.payload.encode(),
        tuple(cloudevents.encode(envelope)),
    )
