"""The quote in TMF648's states. A quote is pinned to one catalog version and so keeps its price when the catalog moves on.

TMF648 has no expired state: expiry is the end of `valid_until`, after which a quote can be read but not acted upon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from app.domain.catalog import ProductOffering
from app.domain.errors import QuoteExpired, QuoteStateConflict
from app.domain.events import QuoteAccepted, QuoteCreated, QuoteEvent, QuotePriced
from app.domain.pricing import PriceStep, price_item
from app.domain.values import CustomerId, Money, OfferingId, QuoteId, TenantId


class QuoteState(StrEnum):
    """TMF648's quote states."""

    IN_PROGRESS = "inProgress"
    PENDING = "pending"
    APPROVED = "approved"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class ItemAction(StrEnum):
    """What an item does to the customer's installed base."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"
    NO_CHANGE = "noChange"


EventT = TypeVar("EventT", bound=QuoteEvent)

_PRICEABLE = frozenset({QuoteState.IN_PROGRESS, QuoteState.APPROVED})


@dataclass(frozen=True, slots=True)
class QuoteItem:
    """One offering in a quantity, with its price once it has one."""

    item_no: int
    action: ItemAction
    offering_id: OfferingId
    quantity: int
    total_one_time: Money | None = None
    total_recurring: Money | None = None
    steps: tuple[PriceStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """An offer to a customer.

    `version` counts every write and is the ETag; `aggregate_seq` counts events.
    """

    quote_id: QuoteId
    tenant_id: TenantId
    version: int
    aggregate_seq: int
    state: QuoteState
    customer_id: CustomerId
    currency: str
    catalog_version: int
    valid_until: datetime
    priced_at: datetime | None
    items: tuple[QuoteItem, ...]
    total_one_time: Money | None
    total_recurring: Money | None
    created_by: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def draft(
        cls,
        *,
        quote_id: QuoteId,
        tenant_id: TenantId,
        customer_id: CustomerId,
        currency: str,
        catalog_version: int,
        valid_until: datetime,
        items: Sequence[tuple[ProductOffering, int]],
        created_by: str,
        now: datetime,
    ) -> tuple[Quote, QuoteCreated]:
        """Write down a quote that is still to be priced.

        Raises:
            OfferingNotSellable: an item is not sold on its own.
            QuoteExpired: the validity would end before it begins.
        """
        for offering, _ in items:
            offering.ensure_sellable()
        quote = cls(
            quote_id=quote_id,
            tenant_id=tenant_id,
            version=1,
            aggregate_seq=1,
            state=QuoteState.IN_PROGRESS,
            customer_id=customer_id,
            currency=currency,
            catalog_version=catalog_version,
            valid_until=valid_until,
            priced_at=None,
            items=tuple(
                QuoteItem(item_no, ItemAction.ADD, offering.offering_id, quantity)
                for item_no, (offering, quantity) in enumerate(items, start=1)
            ),
            total_one_time=None,
            total_recurring=None,
            created_by=created_by,
            created_at=now,
            updated_at=now,
        )
        quote._ensure_valid(now)
        return quote, _event(quote, QuoteCreated)

    def price(self, offerings: Mapping[OfferingId, ProductOffering], now: datetime) -> tuple[Quote, QuotePriced]:
        """Price every item. No approval rule exists yet, so a priced quote is approved at once.

        Args:
            offerings: the offerings of the quote's own catalog version; all items' must be there.
            now: the time of pricing.

        Raises:
            QuoteExpired, QuoteStateConflict: the quote cannot be priced (any more).
            OfferingNotPriced, MoneyNotRepresentable: an item cannot be priced.
        """
        self._ensure_valid(now)
        if self.state not in _PRICEABLE:
            raise QuoteStateConflict(f"A quote in state {self.state} cannot be priced.")
        prices = [price_item(offerings[item.offering_id], item.quantity, self.currency) for item in self.items]
        quote = self._next(
            now,
            state=QuoteState.APPROVED,
            items=tuple(
                replace(item, total_one_time=price.one_time, total_recurring=price.recurring, steps=price.steps)
                for item, price in zip(self.items, prices, strict=True)
            ),
            priced_at=now,
            total_one_time=Money.total((price.one_time for price in prices), self.currency),
            total_recurring=Money.total((price.recurring for price in prices), self.currency),
        )
        return quote, _event(quote, QuotePriced)

    def accept(self, now: datetime) -> tuple[Quote, QuoteAccepted]:
        """Accept the offer.

        Raises:
            QuoteExpired, QuoteStateConflict: it is too late, or the quote is not priced and approved.
        """
        self._ensure_valid(now)
        if self.state is not QuoteState.APPROVED:
            raise QuoteStateConflict(f"A quote in state {self.state} cannot be accepted; it must be approved.")
        quote = self._next(now, state=QuoteState.ACCEPTED)
        return quote, _event(quote, QuoteAccepted)

    def ensure_convertible(self, now: datetime) -> None:
        """Refuse to order from a quote that is not accepted or no longer valid.

        Raises:
            QuoteExpired, QuoteStateConflict: as the names say.
        """
        self._ensure_valid(now)
        if self.state is not QuoteState.ACCEPTED:
            raise QuoteStateConflict(f"A quote in state {self.state} cannot be converted; it must be accepted.")

    def is_expired(self, now: datetime) -> bool:
        """Whether the validity has ended."""
        return now > self.valid_until

    def _ensure_valid(self, now: datetime) -> None:
        if self.is_expired(now):
            raise QuoteExpired(f"The quote was valid until {self.valid_until.isoformat()}.")

    def _next(self, now: datetime, **changes: object) -> Quote:
        return replace(
            self,
            version=self.version + 1,
            aggregate_seq=self.aggregate_seq + 1,
            updated_at=now,
            **changes,  # type: ignore[arg-type]
        )


def _event(quote: Quote, kind: type[EventT]) -> EventT:
    return kind(
        tenant_id=quote.tenant_id,
        quote_id=quote.quote_id,
        customer_id=quote.customer_id,
        aggregate_seq=quote.aggregate_seq,
        state=quote.state,
        currency=quote.currency,
        total_one_time=quote.total_one_time,
        total_recurring=quote.total_recurring,
        occurred_at=quote.updated_at,
    )
