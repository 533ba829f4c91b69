"""The product catalog in TMF620's words: immutable published versions of offerings, their prices and quantity tiers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.domain.errors import OfferingNotSellable
from app.domain.values import OfferingId


@dataclass(frozen=True, slots=True)
class CatalogEdition:
    """A published version by its number and its content.

    After the database was restored to an earlier moment, the same number may be published again with other content.
    """

    catalog_version: int
    content_sha256: str


class PriceType(StrEnum):
    """When a price is charged."""

    ONE_TIME = "oneTime"
    RECURRING = "recurring"


class RecurringPeriod(StrEnum):
    """How often a recurring price is charged."""

    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class ProductOfferingPrice:
    """The list price of one unit; it may be finer than the currency's minor unit."""

    price_type: PriceType
    currency: str
    unit_amount: Decimal
    recurring_period: RecurringPeriod | None = None


@dataclass(frozen=True, slots=True)
class PriceAdjustmentTier:
    """A range tier: from `min_quantity` on, the whole quantity gets the discount."""

    price_type: PriceType
    min_quantity: int
    discount_percent: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class ProductOffering:
    """What can be sold, as one catalog version describes it."""

    offering_id: OfferingId
    name: str
    product_line: str
    is_sellable: bool
    service_specification: str
    prices: tuple[ProductOfferingPrice, ...] = ()
    tiers: tuple[PriceAdjustmentTier, ...] = ()

    def ensure_sellable(self) -> None:
        """Refuse an offering that exists only as part of others.

        Raises:
            OfferingNotSellable: it is not sold on its own.
        """
        if not self.is_sellable:
            raise OfferingNotSellable(f"Offering {self.offering_id} is not sold on its own.")

    def price(self, price_type: PriceType, currency: str) -> ProductOfferingPrice | None:
        """The list price of that kind in that currency, or None."""
        for price in self.prices:
            if price.price_type is price_type and price.currency == currency:
                return price
        return None

    def tier(self, price_type: PriceType, quantity: int) -> PriceAdjustmentTier | None:
        """The highest tier that the quantity reaches, or None."""
        reached = [t for t in self.tiers if t.price_type is price_type and t.min_quantity <= quantity]
        return max(reached, key=lambda tier: tier.min_quantity, default=None)
