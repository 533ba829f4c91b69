"""Makes real orders for tests: a published catalog, then quote, price, acceptance and conversion by the use cases."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from app.adapters.memory.feature_flags import MemoryFeatureFlags
from app.adapters.postgres.catalog_seed import seed
from app.adapters.postgres.pool import Connection
from app.application.idempotency import IdempotentRequest, Response
from app.application.offerings import OfferingReader
from app.application.orders import OrderCommands
from app.application.ports import FeatureFlags, UnitOfWorkFactory
from app.application.process_routing import order_routing
from app.application.publication import Publication
from app.application.quotes import QuoteCommands
from app.contracts.loader import load_processes, load_topics
from app.domain.catalog import CatalogEdition, ProductOffering
from app.domain.commands import AcceptQuote, ConvertQuote, CreateQuote, PriceQuote, RequestedItem
from app.domain.order import Order
from app.domain.quote import Quote
from app.domain.values import Actor, CustomerId, OfferingId, OrderId, TenantId
from app.runtime.clock import SystemClock
from app.runtime.ids import UuidV7Ids

PROCESS_ID = "order-fulfillment-v1"
OFFERING = OfferingId("fiber-1000")


class NoCache:
    """A catalog cache that never has anything."""

    async def offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        return {}

    async def put_offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offerings: Sequence[ProductOffering]
    ) -> int:
        return 0

    async def forget_others(self, tenant_id: TenantId, catalog_version: int) -> int:
        return 0


def catalog_of(tenant_id: str) -> dict[str, Any]:
    """A tenant that sells one thing."""
    return {
        "tenant_id": tenant_id,
        "display_name": tenant_id,
        "default_currency": "EUR",
        "offerings": [
            {
                "offering_id": OFFERING,
                "name": "Fiber 1000",
                "product_line": "internet",
                "service_specification": "fiber-access",
                "prices": [
                    {"price_type": "oneTime", "currency": "EUR", "unit_amount": "49.90"},
                    {
                        "price_type": "recurring",
                        "currency": "EUR",
                        "unit_amount": "39.90",
                        "recurring_period": "month",
                    },
                ],
                "tiers": [],
            }
        ],
    }


async def publish_catalog(admin_connection: Connection, *tenant_ids: str) -> None:
    """Publish the catalog for tenants, as an operator would."""
    await seed(admin_connection, [catalog_of(tenant_id) for tenant_id in tenant_ids], "tests")


async def place_order(
    open_unit_of_work: UnitOfWorkFactory, tenant_id: str, quantity: int = 1, flags: FeatureFlags | None = None
) -> OrderId:
    """Take a customer from quote to accepted order; without `flags` every release flag is off."""
    clock, ids = SystemClock(), UuidV7Ids()
    publication, offerings = Publication(load_topics(), ids), OfferingReader(NoCache())
    quotes = QuoteCommands(
        open_unit_of_work=open_unit_of_work, offerings=offerings, publication=publication, clock=clock, ids=ids
    )
    orders = OrderCommands(
        open_unit_of_work=open_unit_of_work,
        offerings=offerings,
        publication=publication,
        routing=order_routing(load_processes(), flags or MemoryFeatureFlags()),
        clock=clock,
        ids=ids,
    )
    actor = Actor(TenantId(tenant_id), "tests")
    made: list[Quote | Order] = []

    def keep(thing: Quote | Order) -> Response:
        made.append(thing)
        return Response(201, {}, b"{}")

    items = (RequestedItem(OFFERING, quantity),)
    await quotes.create(CreateQuote(CustomerId("customer-1"), "EUR", items), actor, _request(), keep)
    quote = made[0]
    assert isinstance(quote, Quote)
    priced = await quotes.price(PriceQuote(quote.quote_id), actor)
    await quotes.accept(AcceptQuote(quote.quote_id, priced.version), actor)
    await orders.convert(ConvertQuote(quote.quote_id), actor, _request(), keep)
    order = made[1]
    assert isinstance(order, Order)
    return order.order_id


def _request() -> IdempotentRequest:
    return IdempotentRequest(key=str(uuid.uuid4()), request_sha256="0" * 64)
