"""CloudEvents 1.0 in Kafka's binary mode: attributes are record headers, the payload is the record's value untouched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.messaging.envelope import Envelope
from app.messaging.inbox import Header
from app.messaging.retry import Poison

CONTENT_TYPE = "application/json"
ID = "ce_id"
SPEC_VERSION = "1.0"
_TRACEPARENT = "ce_traceparent"
# What the columns that take a sequence can hold.
_LONGEST_SEQUENCE = 18


@dataclass(frozen=True, slots=True)
class EventAttributes:
    """What a consumer may know of an event without reading its payload."""

    event_id: UUID
    event_type: str
    source: str
    tenant_id: str
    sequence: int
    traceparent: str | None


def source_of(aggregate_type: str) -> str:
    """Return the URI reference of the producer's context, such as `/cpq-oms/product_order`."""
    return f"/cpq-oms/{aggregate_type}"


def encode(envelope: Envelope) -> list[tuple[str, bytes]]:
    """Return the record headers of an event, always in the same order."""
    attributes = {
        "ce_specversion": SPEC_VERSION,
        ID: str(envelope.event_id),
        "ce_source": source_of(envelope.aggregate_type),
        "ce_type": envelope.event_type,
        "ce_time": envelope.occurred_at.isoformat(),
        "ce_tenantid": envelope.tenant_id,
        "ce_partitionkey": envelope.partition_key,
        "ce_sequence": str(envelope.aggregate_seq),
        "content-type": CONTENT_TYPE,
    }
    if envelope.traceparent is not None:
        attributes[_TRACEPARENT] = envelope.traceparent
    return [(name, value.encode()) for name, value in attributes.items()]


def decode(headers: Iterable[Header]) -> EventAttributes:
    """Read the record headers of an event; unknown ones are ignored.

    Raises:
        Poison: one is missing, there twice, or malformed; the message names it.
    """
    values: dict[str, str] = {}
    for name, value in headers:
        if name in values:
            raise Poison(f"header {name} is there twice")
        if value is None:
            raise Poison(f"header {name} has no value")
        try:
            values[name] = value.decode()
        except UnicodeDecodeError:
            raise Poison(f"header {name} is not UTF-8") from None
    if _required(values, "ce_specversion") != SPEC_VERSION:
        raise Poison(f"header ce_specversion is not {SPEC_VERSION}")
    try:
        datetime.fromisoformat(_required(values, "ce_time"))
    except ValueError:
        raise Poison("header ce_time is not a timestamp") from None
    try:
        event_id = UUID(_required(values, ID))
    except ValueError:
        raise Poison("header ce_id is not a UUID") from None
    sequence = _required(values, "ce_sequence")
    if not (sequence.isascii() and sequence.isdigit() and len(sequence) <= _LONGEST_SEQUENCE):
        raise Poison("header ce_sequence is not a number")
    return EventAttributes(
        event_id=event_id,
        event_type=_required(values, "ce_type"),
        source=_required(values, "ce_source"),
        tenant_id=_required(values, "ce_tenantid"),
        sequence=int(sequence),
        traceparent=values.get(_TRACEPARENT),
    )


def traceparent_of(headers: Iterable[Header]) -> str | None:
    """The W3C trace context of an event, whatever else its headers are; None where it names none that can be read."""
    found = next((value for name, value in headers if name == _TRACEPARENT and value), b"")
    return found.decode("ascii", errors="replace") or None


def _required(values: dict[str, str], name: str) -> str:
    try:
        return values[name]
    except KeyError:
        raise Poison(f"header {name} is missing") from None
