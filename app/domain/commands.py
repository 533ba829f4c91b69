"""What an actor asks for, in the imperative. Transport has checked form and types; the business rules come after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.domain.values import CustomerId, OfferingId, QuoteId


@dataclass(frozen=True, slots=True)
class RequestedItem:
    """One wished-for offering and how many of it."""

    offering_id: OfferingId
    quantity: int


@dataclass(frozen=True, slots=True)
class CreateQuote:
    """Write down what a customer wishes to buy; `valid_until` None asks for the default validity."""

    customer_id: CustomerId
    currency: str
    items: tuple[RequestedItem, ...]
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PriceQuote:
    """Price all items from the quote's catalog version; `expected_version` None means whichever is current."""

    quote_id: QuoteId
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class AcceptQuote:
    """Take the offer as it stood at `expected_version`: a price that changed since is not accepted unseen."""

    quote_id: QuoteId
    expected_version: int


@dataclass(frozen=True, slots=True)
class ConvertQuote:
    """Turn the accepted quote into an order."""

    quote_id: QuoteId
    expected_version: int | None = None
