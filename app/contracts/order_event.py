"""The payload of oms.order.events.v1 as a typed value: events/order.v1.schema.json in Python, a test holds them equal."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,15}(\.[0-9]{2,3})?$")]


class OrderEventV1(Struct, frozen=True, rename="camel", kw_only=True):
    """One state change of a product order. Fields and event types that later releases add are taken as they come."""

    event_id: UUID
    event_type: Annotated[str, Meta(min_length=1)]
    tenant_id: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{1,62}$")]
    order_id: UUID
    quote_id: UUID
    customer_id: Annotated[str, Meta(min_length=1)]
    aggregate_seq: Annotated[int, Meta(ge=1)]
    state: Literal[
        "acknowledged",
        "rejected",
        "pending",
        "held",
        "inProgress",
        "cancelled",
        "completed",
        "failed",
        "partial",
        "assessingCancellation",
        "pendingCancellation",
    ]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]
    total_one_time: Amount
    total_recurring: Amount
    occurred_at: Annotated[datetime, Meta(tz=True)]
