"""Facts about aggregates, in the past tense. An event is one state change; its `aggregate_seq` is gapless per aggregate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.domain.values import CustomerId, Money, OrderId, QuoteId, TenantId


@dataclass(frozen=True, slots=True)
class QuoteEvent:
    """A quote changed its state; the class says how."""

    tenant_id: TenantId
    quote_id: QuoteId
    customer_id: CustomerId
    aggregate_seq: int
    state: str
    currency: str
    total_one_time: Money | None
    total_recurring: Money | None
    occurred_at: datetime


class QuoteCreated(QuoteEvent):
    """A customer's wish was written down; nothing is priced yet."""


class QuotePriced(QuoteEvent):
    """All items have a price from the quote's catalog version."""


class QuoteAccepted(QuoteEvent):
    """The customer took the offer at the price it shows."""


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An order changed its state; the class says how."""

    tenant_id: TenantId
    order_id: OrderId
    quote_id: QuoteId
    customer_id: CustomerId
    aggregate_seq: int
    state: str
    currency: str
    total_one_time: Money
    total_recurring: Money
    occurred_at: datetime


class OrderAcknowledged(OrderEvent):
    """An accepted quote became an order that waits for its fulfillment process."""


class OrderInProgress(OrderEvent):
    """Fulfillment has begun."""


class OrderCompleted(OrderEvent):
    """Every item is fulfilled."""


class OrderFailed(OrderEvent):
    """Fulfillment ended without fulfilling the order."""
