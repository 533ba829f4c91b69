from __future__ import annotations

import json
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from app.adapters.memory.unit_of_work import MemoryStore
from app.application.publication import Publication
from app.contracts.loader import DIRECTORY
from app.domain.events import OrderAcknowledged
from app.domain.values import Actor, CustomerId, Money, OrderId, QuoteId, TenantId
from app.messaging.envelope import Envelope
from tests.support.builders import NOON, TOPICS, CountingIds, SetClock, fiber, legacy
from tests.support.port_suite import Harness

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def published() -> list[Envelope]:
    """What a quote's way to an order leaves in the outbox."""
    store = MemoryStore(SetClock())
    store.publish(TenantId("acme"), 1, [fiber(), legacy()])
    harness = Harness(store.unit_of_work, CountingIds(), ["acme", "globex", "initech"])
    harness.mine = Actor(TenantId("acme"), "somebody", "request-1", TRACE)
    await harness.convert(await harness.accepted_quote())
    return store.rows.outbox


def test_every_event_has_the_shape_its_topic_declares(published: list[Envelope]) -> None:
    for envelope in published:
        schema = json.loads((DIRECTORY / "events" / str(TOPICS[envelope.topic].schema_file)).read_text())
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(json.loads(envelope.payload))


def test_envelope_and_payload_agree(published: list[Envelope]) -> None:
    for envelope in published:
        payload = json.loads(envelope.payload)
        assert payload["eventId"] == str(envelope.event_id)
        assert payload["eventType"] == envelope.event_type
        assert payload["aggregateSeq"] == envelope.aggregate_seq
        assert (
            payload[TOPICS[envelope.topic].partition_key or ""] == envelope.partition_key == str(envelope.aggregate_id)
        )
        assert envelope.traceparent == TRACE


def test_amounts_are_decimal_strings_of_the_currency() -> None:
    event = OrderAcknowledged(
        tenant_id=TenantId("acme"),
        order_id=OrderId(UUID(int=1)),
        quote_id=QuoteId(UUID(int=2)),
        customer_id=CustomerId("c-1"),
        aggregate_seq=1,
        state="acknowledged",
        currency="JPY",
        total_one_time=Money.zero("JPY"),
        total_recurring=Money.zero("JPY"),
        occurred_at=NOON,
    )

    payload = json.loads(Publication(TOPICS, CountingIds()).of_order(event, None).payload)

    assert (payload["totalOneTime"], payload["totalRecurring"]) == ("0", "0")


def test_two_topics_with_one_schema_are_refused() -> None:
    (order_topic,) = [topic for topic in TOPICS.values() if topic.schema_file == "order.v1.schema.json"]
    twice = {**TOPICS, "oms.order.copy.v1": order_topic.model_copy(update={"name": "oms.order.copy.v1"})}

    with pytest.raises(ValueError, match="found 2"):
        Publication(twice, CountingIds())
