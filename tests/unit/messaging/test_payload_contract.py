from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from app.contracts import loader
from app.messaging.envelope import Envelope
from app.messaging.payload_contract import SchemaContract
from tests.support.events import order_event

CONTRACT = SchemaContract()
EVENT = order_event("acme", uuid.uuid4(), 2)


def altered(**fields: object) -> Envelope:
    payload = json.loads(EVENT.payload) | fields
    return replace(EVENT, payload=json.dumps({name: value for name, value in payload.items() if value is not ...}))


def test_a_sound_event_is_not_refused() -> None:
    assert CONTRACT.refusal(EVENT) is None


def test_a_field_of_a_later_version_is_no_reason() -> None:
    assert CONTRACT.refusal(altered(salesChannel="web")) is None


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (replace(EVENT, payload="{"), "the payload is not JSON"),
        (replace(EVENT, payload="[]"), "must be object"),
        (altered(customerId=...), "data must contain"),
        (altered(aggregateSeq="2"), "data.aggregateSeq must be integer"),
        (altered(state="done"), "data.state must be one of"),
        (altered(tenantId="globex"), "payload and envelope differ in tenantId"),
        (altered(orderId=str(uuid.uuid4())), "payload and envelope differ in orderId"),
        (altered(eventId=str(uuid.uuid4()), aggregateSeq=3), "payload and envelope differ in aggregateSeq, eventId"),
        (altered(eventType="OrderFailed"), "payload and envelope differ in eventType"),
    ],
)
def test_what_is_wrong_is_said(event: Envelope, reason: str) -> None:
    assert reason in (CONTRACT.refusal(event) or "")


def test_the_reason_repeats_nothing_of_the_payload() -> None:
    reason = CONTRACT.refusal(altered(currency="secret", customerId="also-secret"))

    assert reason is not None
    assert "secret" not in reason


def test_a_topic_that_is_not_declared_is_not_judged() -> None:
    assert CONTRACT.refusal(replace(EVENT, topic="oms.parcel.events.v1", payload="{}")) is None


def test_the_version_is_that_of_the_schemas(tmp_path: Path) -> None:
    copy = tmp_path / "contracts"
    shutil.copytree(loader.DIRECTORY, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    assert SchemaContract(copy).version == CONTRACT.version

    schema = copy / "events" / "order.v1.schema.json"
    schema.write_text(schema.read_text().replace('"Order event, version 1"', '"Order event"'))

    assert SchemaContract(copy).version != CONTRACT.version
