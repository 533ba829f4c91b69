"""What the domain publishes is what the event schemas promise, for every event there is."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import jsonschema
import pytest

from app.application.consumption import read_order_event
from app.application.publication import Publication
from app.contracts.loader import DIRECTORY, load_topics
from app.domain.events import OrderEvent, QuoteEvent
from app.domain.values import CustomerId, Money, OrderId, QuoteId, TenantId
from app.messaging import cloudevents
from app.messaging.envelope import Envelope
from app.messaging.inbox import Partition, Record
from app.runtime.ids import UuidV7Ids

CURRENCIES = {"EUR": "12.30", "JPY": "12", "KWD": "12.345"}


def publication() -> Publication:
    return Publication(load_topics(), UuidV7Ids())


def order_event(kind: type[OrderEvent], currency: str) -> OrderEvent:
    amount = Money(Decimal(CURRENCIES[currency]), currency)
    return kind(
        tenant_id=TenantId("acme"),
        order_id=OrderId(uuid.uuid4()),
        quote_id=QuoteId(uuid.uuid4()),
        customer_id=CustomerId("customer-1"),
        aggregate_seq=2,
        state="inProgress",
        currency=currency,
        total_one_time=amount,
        total_recurring=Money.zero(currency),
        occurred_at=datetime.now(UTC),
    )


def quote_event(kind: type[QuoteEvent], total: Money | None) -> QuoteEvent:
    return kind(
        tenant_id=TenantId("acme"),
        quote_id=QuoteId(uuid.uuid4()),
        customer_id=CustomerId("customer-1"),
        aggregate_seq=1,
        state="inProgress",
        currency="EUR",
        total_one_time=total,
        total_recurring=total,
        occurred_at=datetime.now(UTC),
    )


def validate(envelope: Envelope) -> dict[str, Any]:
    schema_file = load_topics()[envelope.topic].schema_file
    assert schema_file is not None
    schema = json.loads((DIRECTORY / "events" / schema_file).read_text())
    payload: dict[str, Any] = json.loads(envelope.payload)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(payload)
    return payload


def kinds_in_schema(name: str) -> set[str]:
    schema = json.loads((DIRECTORY / "events" / name).read_text())
    return set(schema["properties"]["eventType"]["enum"])


@pytest.mark.parametrize("currency", CURRENCIES)
@pytest.mark.parametrize("kind", OrderEvent.__subclasses__())
def test_an_order_event_fits_its_schema_and_the_consumer_reads_it(kind: type[OrderEvent], currency: str) -> None:
    event = order_event(kind, currency)

    envelope = publication().of_order(event, None)

    validate(envelope)
    record = Record(
        Partition(envelope.topic, 0), 0, b"", envelope.payload.encode(), tuple(cloudevents.encode(envelope))
    )
    snapshot = read_order_event(record).snapshot
    assert (snapshot.order_id, snapshot.state, snapshot.applied_seq) == (event.order_id, "inProgress", 2)
    assert snapshot.total_one_time == event.total_one_time.amount


@pytest.mark.parametrize("total", [None, Money(Decimal("0.10"), "EUR")], ids=["unpriced", "priced"])
@pytest.mark.parametrize("kind", QuoteEvent.__subclasses__())
def test_a_quote_event_fits_its_schema(kind: type[QuoteEvent], total: Money | None) -> None:
    validate(publication().of_quote(quote_event(kind, total), None))


def test_the_schemas_name_every_event_of_the_domain() -> None:
    assert kinds_in_schema("order.v1.schema.json") == {kind.__name__ for kind in OrderEvent.__subclasses__()}
    assert kinds_in_schema("quote.v1.schema.json") == {kind.__name__ for kind in QuoteEvent.__subclasses__()}
