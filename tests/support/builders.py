"""Catalogs, clocks and identifiers for tests, with the values that tests assert on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.adapters.memory.catalog_cache import MemoryCatalogCache
from app.adapters.memory.feature_flags import MemoryFeatureFlags
from app.application.offerings import OfferingReader
from app.application.orders import OrderCommands
from app.application.ports import CatalogCache, UnitOfWorkFactory
from app.application.process_routing import FulfillmentProcess, order_routing
from app.application.publication import Publication
from app.application.quotes import QuoteCommands
from app.contracts.loader import load_processes, load_topics
from app.domain.catalog import PriceAdjustmentTier, PriceType, ProductOffering, ProductOfferingPrice, RecurringPeriod
from app.domain.values import OfferingId
from app.runtime.clock import Clock
from app.runtime.ids import Ids

TOPICS = load_topics()
PROCESSES = load_processes()
DEFAULT_PROCESS = "order-fulfillment-v1"
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FIBER = OfferingId("fiber-1000")
LEGACY = OfferingId("isdn-legacy")


class SetClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, duration: timedelta) -> None:
        self._now += duration
        self._elapsed += duration.total_seconds()


class CountingIds:
    """Identifiers that count up from one."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> UUID:
        self._last += 1
        return UUID(int=self._last)


def fiber(
    *, one_time: str = "49.90", recurring: str = "39.95", tiers: tuple[PriceAdjustmentTier, ...] | None = None
) -> ProductOffering:
    """An offering with both kinds of price and, unless told otherwise, a tier of 12.5 % from 10 on."""
    volume = PriceAdjustmentTier(PriceType.RECURRING, 10, Decimal("12.5"), "volume")
    return ProductOffering(
        offering_id=FIBER,
        name="Fiber 1000",
        product_line="broadband",
        is_sellable=True,
        service_specification="internet-access",
        prices=(
            ProductOfferingPrice(PriceType.ONE_TIME, "EUR", Decimal(one_time)),
            ProductOfferingPrice(PriceType.RECURRING, "EUR", Decimal(recurring), RecurringPeriod.MONTH),
        ),
        tiers=(volume,) if tiers is None else tiers,
    )


def legacy() -> ProductOffering:
    """An offering that is not sold on its own."""
    return ProductOffering(LEGACY, "ISDN line", "voice", False, "voice-line")  # noqa: FBT003 (field order of the row)


def published(tenant_id: str, offerings: list[ProductOffering]) -> dict[str, Any]:
    """A tenant's catalog in the shape that `seed` publishes."""
    return {
        "tenant_id": tenant_id,
        "display_name": tenant_id,
        "default_currency": "EUR",
        "offerings": [
            {
                "offering_id": offering.offering_id,
                "name": offering.name,
                "product_line": offering.product_line,
                "is_sellable": offering.is_sellable,
                "service_specification": offering.service_specification,
                "prices": [
                    {
                        "price_type": price.price_type,
                        "currency": price.currency,
                        "unit_amount": str(price.unit_amount),
                        "recurring_period": price.recurring_period,
                    }
                    for price in offering.prices
                ],
                "tiers": [
                    {
                        "price_type": tier.price_type,
                        "min_quantity": tier.min_quantity,
                        "discount_percent": str(tier.discount_percent),
                        "reason": tier.reason,
                    }
                    for tier in offering.tiers
                ],
            }
            for offering in offerings
        ],
    }


class Commands:
    """The use cases on a store, with the declared fulfillment processes; release flags are off unless a test says so."""

    def __init__(
        self, open_unit_of_work: UnitOfWorkFactory, clock: Clock, ids: Ids, cache: CatalogCache | None = None
    ) -> None:
        offerings = OfferingReader(cache or MemoryCatalogCache())
        publication = Publication(TOPICS, ids)
        self.flags = MemoryFeatureFlags()
        declared = PROCESSES.processes[DEFAULT_PROCESS]
        self.process = FulfillmentProcess(DEFAULT_PROCESS, declared.job_types, declared.variables_schema_version)
        self.quotes = QuoteCommands(
            open_unit_of_work=open_unit_of_work, offerings=offerings, publication=publication, clock=clock, ids=ids
        )
        self.orders = OrderCommands(
            open_unit_of_work=open_unit_of_work,
            offerings=offerings,
            publication=publication,
            routing=order_routing(PROCESSES, self.flags),
            clock=clock,
            ids=ids,
        )
