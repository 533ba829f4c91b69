"""events/order.v1.schema.json and the type that reads it say the same."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import msgspec
import pytest

from app.contracts.loader import DIRECTORY
from app.contracts.order_event import OrderEventV1

SCHEMA = json.loads((DIRECTORY / "events" / "order.v1.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
EVENT: dict[str, Any] = {
    "eventId": "01933c5e-7d5a-7000-8000-000000000001",
    "eventType": "OrderCompleted",
    "tenantId": "acme",
    "orderId": "01933c5e-7d5a-7000-8000-000000000002",
    "quoteId": "01933c5e-7d5a-7000-8000-000000000003",
    "customerId": "customer-1",
    "aggregateSeq": 3,
    "state": "completed",
    "currency": "EUR",
    "totalOneTime": "10.00",
    "totalRecurring": "1.50",
    "occurredAt": "2026-11-22T20:00:00.000001+00:00",
}


def read(event: dict[str, Any]) -> OrderEventV1:
    return msgspec.json.decode(json.dumps(event), type=OrderEventV1)


def test_the_type_has_the_schemas_fields_and_no_other() -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(OrderEventV1)}

    assert fields == set(SCHEMA["properties"]) == set(SCHEMA["required"])


def test_both_take_a_sound_event() -> None:
    VALIDATOR.validate(EVENT)

    assert read(EVENT).aggregate_seq == 3


def test_both_take_a_field_of_a_later_version() -> None:
    later = EVENT | {"salesChannel": "web"}

    VALIDATOR.validate(later)
    read(later)


def test_only_the_reader_takes_an_event_type_of_a_later_release() -> None:
    later = EVENT | {"eventType": "OrderShipped"}

    assert not VALIDATOR.is_valid(later)  # what writers of this release must not say
    assert SCHEMA["properties"]["eventType"]["x-open"]
    assert read(later).event_type == "OrderShipped"


@pytest.mark.parametrize("state", SCHEMA["properties"]["state"]["enum"])
def test_both_take_every_state(state: str) -> None:
    assert read(EVENT | {"state": state}).state == state


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eventId", "1"),
        ("eventType", ""),
        ("tenantId", "Acme"),
        ("orderId", None),
        ("customerId", ""),
        ("aggregateSeq", 0),
        ("aggregateSeq", "3"),
        ("aggregateSeq", 1.5),
        ("state", "done"),
        ("currency", "eur"),
        ("totalOneTime", 10),
        ("totalOneTime", "-1.00"),
        ("totalRecurring", "1e3"),
        ("totalRecurring", "1.5"),
    ],
)
def test_both_refuse_the_same(field: str, value: object) -> None:
    event = EVENT | {field: value}

    assert not VALIDATOR.is_valid(event)
    with pytest.raises(msgspec.ValidationError):
        read(event)


@pytest.mark.parametrize("field", SCHEMA["required"])
def test_both_refuse_an_event_without(field: str) -> None:
    event = {name: value for name, value in EVENT.items() if name != field}

    assert not VALIDATOR.is_valid(event)
    with pytest.raises(msgspec.ValidationError):
        read(event)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        read(EVENT | {"occurredAt": "2026-11-22T20:00:00"})
