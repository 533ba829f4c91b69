from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.messaging import cloudevents
from app.messaging.envelope import SHARDS, Envelope
from app.messaging.retry import Poison

ENVELOPE = Envelope(
    event_id=UUID(int=1),
    tenant_id="acme",
    aggregate_type="product_order",
    aggregate_id=UUID(int=2),
    aggregate_seq=3,
    event_type="OrderCompleted",
    topic="oms.order.events.v1",
    partition_key="2",
    payload="{}",
    occurred_at=datetime(2026, 11, 22, 20, 0, tzinfo=UTC),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def test_headers_carry_the_cloudevents_attributes() -> None:
    assert cloudevents.encode(ENVELOPE) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"00000000-0000-0000-0000-000000000001"),
        ("ce_source", b"/cpq-oms/product_order"),
        ("ce_type", b"OrderCompleted"),
        ("ce_time", b"2026-11-22T20:00:00+00:00"),
        ("ce_tenantid", b"acme"),
        ("ce_partitionkey", b"2"),
        ("ce_sequence", b"3"),
        ("content-type", b"application/json"),
        ("ce_traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]


def test_what_is_encoded_is_decoded() -> None:
    attributes = cloudevents.decode(cloudevents.encode(ENVELOPE))

    assert attributes == cloudevents.EventAttributes(
        event_id=ENVELOPE.event_id,
        event_type="OrderCompleted",
        source="/cpq-oms/product_order",
        tenant_id="acme",
        sequence=3,
        traceparent=ENVELOPE.traceparent,
    )


@pytest.mark.parametrize("missing", ["ce_specversion", "ce_id", "ce_type", "ce_time", "ce_tenantid", "ce_sequence"])
def test_a_missing_header_is_named(missing: str) -> None:
    headers = [(name, value) for name, value in cloudevents.encode(ENVELOPE) if name != missing]

    with pytest.raises(Poison, match=f"header {missing} is missing"):
        cloudevents.decode(headers)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ce_id", b"not-a-uuid", "ce_id is not a UUID"),
        ("ce_sequence", b"-1", "ce_sequence is not a number"),
        ("ce_sequence", "²".encode(), "ce_sequence is not a number"),
        ("ce_sequence", b"9" * 5000, "ce_sequence is not a number"),
        ("ce_id", None, "ce_id has no value"),
        ("content-type", None, "content-type has no value"),
        ("ce_tenantid", b"\xff", "ce_tenantid is not UTF-8"),
        ("ce_specversion", b"0.3", "ce_specversion is not 1.0"),
        ("ce_time", b"yesterday", "ce_time is not a timestamp"),
    ],
)
def test_a_malformed_header_is_named(name: str, value: bytes | None, message: str) -> None:
    headers = [(known, value if known == name else given) for known, given in cloudevents.encode(ENVELOPE)]

    with pytest.raises(Poison, match=message):
        cloudevents.decode(headers)


def test_a_header_given_twice_is_refused_rather_than_chosen_from() -> None:
    with pytest.raises(Poison, match="ce_tenantid is there twice"):
        cloudevents.decode([*cloudevents.encode(ENVELOPE), ("ce_tenantid", b"globex")])


def test_all_events_of_an_aggregate_share_a_shard() -> None:
    assert ENVELOPE.shard in range(SHARDS)
    assert replace(ENVELOPE, event_id=UUID(int=9), aggregate_seq=4).shard == ENVELOPE.shard
