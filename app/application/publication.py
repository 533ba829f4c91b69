"""Turns domain events into envelopes for the outbox: which topic, which key, which JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from app.contracts.loader import Topic
from app.domain.events import OrderEvent, QuoteEvent
from app.domain.values import Money
from app.messaging.envelope import Envelope
from app.runtime.ids import Ids


class Publication:
    """Makes envelopes, each with an identifier of its own.

    Args:
        topics: the declared topics; an event goes to the one that carries version 1 of its aggregate's schema.
        ids: source of event identifiers.

    Raises:
        ValueError: not exactly one topic carries the schema of an aggregate.
    """

    def __init__(self, topics: Mapping[str, Topic], ids: Ids) -> None:
        self._ids = ids
        self._topics = {aggregate: _topic_of(aggregate, topics) for aggregate in ("order", "quote")}

    def of_quote(self, event: QuoteEvent, traceparent: str | None) -> Envelope:
        """Wrap a quote's event."""
        return self._envelope("quote", event, {"quoteId": str(event.quote_id)}, traceparent)

    def of_order(self, event: OrderEvent, traceparent: str | None) -> Envelope:
        """Wrap an order's event."""
        identity = {"orderId": str(event.order_id), "quoteId": str(event.quote_id)}
        return self._envelope("order", event, identity, traceparent)

    def _envelope(
        self, aggregate: str, event: QuoteEvent | OrderEvent, identity: dict[str, str], traceparent: str | None
    ) -> Envelope:
        event_id = self._ids.new()
        event_type = type(event).__name__
        payload = {
            "eventId": str(event_id),
            "eventType": event_type,
            "tenantId": event.tenant_id,
            **identity,
            "customerId": event.customer_id,
            "aggregateSeq": event.aggregate_seq,
            "state": event.state,
            "currency": event.currency,
            "totalOneTime": _decimal_string(event.total_one_time),
            "totalRecurring": _decimal_string(event.total_recurring),
            "occurredAt": event.occurred_at.isoformat(),
        }
        aggregate_id = event.order_id if isinstance(event, OrderEvent) else event.quote_id
        topic = self._topics[aggregate]
        return Envelope(
            event_id=event_id,
            tenant_id=event.tenant_id,
            aggregate_type=aggregate,
            aggregate_id=aggregate_id,
            aggregate_seq=event.aggregate_seq,
            event_type=event_type,
            topic=topic.name,
            partition_key=str(payload[topic.partition_key or f"{aggregate}Id"]),
            payload=json.dumps(payload, ensure_ascii=False, separators=(",", ":")),
            occurred_at=event.occurred_at,
            traceparent=traceparent,
        )


def _topic_of(aggregate: str, topics: Mapping[str, Topic]) -> Topic:
    schema = f"{aggregate}.v1.schema.json"
    carriers = [topic for topic in topics.values() if topic.schema_file == schema]
    if len(carriers) != 1:
        raise ValueError(f"expected exactly one topic with schema {schema}, found {len(carriers)}")
    return carriers[0]


def _decimal_string(money: Money | None) -> str | None:
    return None if money is None else str(money)
