"""The product order in TMF622's states: made from an accepted quote at the quote's price, then driven by fulfillment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from app.domain.catalog import ProductOffering
from app.domain.errors import OrderStateConflict, QuoteStateConflict
from app.domain.events import OrderAcknowledged, OrderCompleted, OrderEvent, OrderFailed, OrderInProgress
from app.domain.quote import ItemAction, Quote
from app.domain.values import CustomerId, Money, OfferingId, OrderId, QuoteId, TenantId


class OrderState(StrEnum):
    """TMF622's product order states."""

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    PENDING = "pending"
    HELD = "held"
    IN_PROGRESS = "inProgress"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    FAILED = "failed"
    PARTIAL = "partial"
    ASSESSING_CANCELLATION = "assessingCancellation"
    PENDING_CANCELLATION = "pendingCancellation"


class OrderType(StrEnum):
    """What an order does to the customer's products: the action of all its items, or a mixture."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"
    MIXED = "mixed"


TRANSITIONS: Mapping[OrderState, Mapping[OrderState, type[OrderEvent]]] = MappingProxyType(
    {
        OrderState.ACKNOWLEDGED: {
            OrderState.IN_PROGRESS: OrderInProgress,
            OrderState.FAILED: OrderFailed,
        },
        OrderState.IN_PROGRESS: {
            OrderState.COMPLETED: OrderCompleted,
            OrderState.FAILED: OrderFailed,
        },
    }
)
"""Every allowed change of state and the event it is announced with; what is not here is refused."""


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One item of the quote, with the specification of the service that fulfils it."""

    item_no: int
    action: ItemAction
    offering_id: OfferingId
    quantity: int
    service_specification: str
    total_one_time: Money
    total_recurring: Money


@dataclass(frozen=True, slots=True)
class OrderTransition:
    """One change of state. `aggregate_seq` is also the sequence of its event, so history and outbox can be joined."""

    order_id: OrderId
    tenant_id: TenantId
    aggregate_seq: int
    from_state: OrderState | None
    to_state: OrderState
    reason: str
    actor: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class OrderChange:
    """An order after a change of state, with the transition to store and the event to publish."""

    order: Order
    transition: OrderTransition
    event: OrderEvent


@dataclass(frozen=True, slots=True)
class Order:
    """A customer's order. `version` counts every write and is the ETag; `aggregate_seq` counts transitions."""

    order_id: OrderId
    tenant_id: TenantId
    quote_id: QuoteId
    version: int
    aggregate_seq: int
    state: OrderState
    customer_id: CustomerId
    currency: str
    catalog_version: int
    total_one_time: Money
    total_recurring: Money
    items: tuple[OrderItem, ...]
    created_by: str
    created_at: datetime
    updated_at: datetime

    @property
    def order_type(self) -> OrderType:
        """What the order does; items that change nothing do not count."""
        actions = {item.action for item in self.items} - {ItemAction.NO_CHANGE}
        return OrderType(actions.pop()) if len(actions) == 1 else OrderType.MIXED

    @classmethod
    def from_quote(
        cls,
        quote: Quote,
        offerings: Mapping[OfferingId, ProductOffering],
        *,
        order_id: OrderId,
        actor: str,
        now: datetime,
    ) -> OrderChange:
        """Acknowledge an order for an accepted quote, at exactly the quote's price.

        Args:
            quote: the accepted quote.
            offerings: the offerings of the quote's own catalog version.
            order_id: the new order's identifier.
            actor: who converts.
            now: the time of conversion.

        Raises:
            QuoteExpired, QuoteStateConflict: the quote does not allow it.
        """
        quote.ensure_convertible(now)
        if quote.total_one_time is None or quote.total_recurring is None:
            raise QuoteStateConflict("A quote without a price cannot be converted.")
        order = cls(
            order_id=order_id,
            tenant_id=quote.tenant_id,
            quote_id=quote.quote_id,
            version=1,
            aggregate_seq=1,
            state=OrderState.ACKNOWLEDGED,
            customer_id=quote.customer_id,
            currency=quote.currency,
            catalog_version=quote.catalog_version,
            total_one_time=quote.total_one_time,
            total_recurring=quote.total_recurring,
            items=tuple(
                OrderItem(
                    item_no=item.item_no,
                    action=item.action,
                    offering_id=item.offering_id,
                    quantity=item.quantity,
                    service_specification=offerings[item.offering_id].service_specification,
                    total_one_time=item.total_one_time or Money.zero(quote.currency),
                    total_recurring=item.total_recurring or Money.zero(quote.currency),
                )
                for item in quote.items
            ),
            created_by=actor,
            created_at=now,
            updated_at=now,
        )
        return _change(order, None, OrderAcknowledged, f"converted from quote {quote.quote_id}", actor)

    def transition(self, to: OrderState, *, reason: str, actor: str, now: datetime) -> OrderChange:
        """Move to another state.

        Raises:
            OrderStateConflict: TRANSITIONS does not allow it.
        """
        kind = TRANSITIONS.get(self.state, {}).get(to)
        if kind is None:
            raise OrderStateConflict(f"An order in state {self.state} cannot become {to}.")
        order = replace(self, state=to, version=self.version + 1, aggregate_seq=self.aggregate_seq + 1, updated_at=now)
        return _change(order, self.state, kind, reason, actor)


def _change(
    order: Order, from_state: OrderState | None, kind: type[OrderEvent], reason: str, actor: str
) -> OrderChange:
    transition = OrderTransition(
        order_id=order.order_id,
        tenant_id=order.tenant_id,
        aggregate_seq=order.aggregate_seq,
        from_state=from_state,
        to_state=order.state,
        reason=reason,
        actor=actor,
        occurred_at=order.updated_at,
    )
    event = kind(
        tenant_id=order.tenant_id,
        order_id=order.order_id,
        quote_id=order.quote_id,
        customer_id=order.customer_id,
        aggregate_seq=order.aggregate_seq,
        state=order.state,
        currency=order.currency,
        total_one_time=order.total_one_time,
        total_recurring=order.total_recurring,
        occurred_at=order.updated_at,
    )
    return OrderChange(order, transition, event)
