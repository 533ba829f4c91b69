"""A store in memory with the units of work of `app.application.ports`, for unit tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from types import TracebackType
from typing import Self

from app.adapters.memory.fulfillment import FulfillmentRows, MemoryFulfillmentRepository
from app.adapters.memory.workflow_references import MemoryWorkflowReferenceRepository, WorkflowReferenceRows
from app.application.ports import AuditEntry, ConcurrentChange, StoredResponse
from app.domain.catalog import CatalogEdition, ProductOffering
from app.domain.order import Order, OrderTransition
from app.domain.process_route import ProcessRoute
from app.domain.quote import Quote
from app.domain.values import OfferingId, OrderId, QuoteId, TenantId
from app.messaging.envelope import Envelope
from app.runtime.clock import Clock

Key = tuple[TenantId, str, str]


@dataclass
class Rows:
    """Everything that is stored, of all tenants; values never change, only the containers do."""

    active_versions: dict[TenantId, int] = field(default_factory=dict)
    offerings: dict[tuple[TenantId, int, OfferingId], ProductOffering] = field(default_factory=dict)
    quotes: dict[QuoteId, Quote] = field(default_factory=dict)
    orders: dict[OrderId, Order] = field(default_factory=dict)
    transitions: list[OrderTransition] = field(default_factory=list)
    responses: dict[Key, tuple[StoredResponse, datetime]] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    outbox: list[Envelope] = field(default_factory=list)
    fulfillment: FulfillmentRows = field(default_factory=FulfillmentRows)
    workflow_references: WorkflowReferenceRows = field(default_factory=WorkflowReferenceRows)
    process_routes: list[ProcessRoute] = field(default_factory=list)

    def copy(self) -> Rows:
        """A copy that can be changed without changing these."""
        return Rows(**{each.name: getattr(self, each.name).copy() for each in fields(self)})


class MemoryStore:
    """A database for one process. Transactions that overlap conflict when both have changed something."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows = Rows()
        self.claims: set[Key] = set()
        self.commits = 0

    def publish(self, tenant_id: TenantId, catalog_version: int, offerings: Sequence[ProductOffering]) -> None:
        """Publish a catalog version and make it the active one."""
        self.rows.active_versions[tenant_id] = catalog_version
        self.rows.offerings |= {(tenant_id, catalog_version, each.offering_id): each for each in offerings}

    def unit_of_work(self, tenant_id: TenantId) -> MemoryUnitOfWork:
        """See `app.application.ports.UnitOfWorkFactory`."""
        return MemoryUnitOfWork(self, tenant_id)


class MemoryUnitOfWork:
    """See `app.application.ports.UnitOfWork`."""

    def __init__(self, store: MemoryStore, tenant_id: TenantId) -> None:
        self._store = store
        self._claimed: set[Key] = set()
        self.tenant_id = tenant_id

    async def __aenter__(self) -> Self:
        self._began_at = self._store.commits
        self.rows = self._store.rows.copy()
        self.catalog = MemoryCatalogRepository(self.rows, self.tenant_id)
        self.quotes = MemoryQuoteRepository(self.rows, self.tenant_id)
        self.orders = MemoryOrderRepository(self.rows, self.tenant_id)
        self.idempotency = MemoryIdempotencyRepository(self.rows, self.tenant_id, self._claim)
        self.audit = MemoryAuditTrail(self.rows)
        self.outbox = MemoryOutboxStore(self.rows)
        self.fulfillment = MemoryFulfillmentRepository(self.rows.fulfillment)
        self.workflow_references = MemoryWorkflowReferenceRepository(self.rows.workflow_references, self._store.clock)
        self.process_routes = MemoryProcessRouteRepository(self.rows, self.tenant_id)
        return self

    async def commit(self) -> None:
        if self._store.commits != self._began_at:
            raise ConcurrentChange("a transaction that overlapped")
        self._store.rows = self.rows
        self._store.commits += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.claims -= self._claimed

    def _claim(self, key: Key) -> bool:
        if key in self._store.claims:
            return False
        self._store.claims.add(key)
        self._claimed.add(key)
        return True


class MemoryCatalogRepository:
    """See `app.application.ports.CatalogRepository`."""

    def __init__(self, rows: Rows, tenant_id: TenantId) -> None:
        self._rows = rows
        self._tenant_id = tenant_id

    async def active_version(self) -> int | None:
        return self._rows.active_versions.get(self._tenant_id)

    async def edition(self, catalog_version: int) -> CatalogEdition | None:
        own = [
            repr(offering)
            for (tenant_id, version, _), offering in sorted(self._rows.offerings.items())
            if (tenant_id, version) == (self._tenant_id, catalog_version)
        ]
        return CatalogEdition(catalog_version, hashlib.sha256("".join(own).encode()).hexdigest()) if own else None

    async def offerings(
        self, catalog_version: int, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        keys = ((self._tenant_id, catalog_version, offering_id) for offering_id in offering_ids)
        return {key[2]: self._rows.offerings[key] for key in keys if key in self._rows.offerings}

    async def sellable_offerings(self, catalog_version: int) -> list[ProductOffering]:
        own = [
            offering
            for (tenant_id, version, _), offering in self._rows.offerings.items()
            if (tenant_id, version) == (self._tenant_id, catalog_version) and offering.is_sellable
        ]
        return sorted(own, key=lambda offering: offering.offering_id)


class MemoryQuoteRepository:
    """See `app.application.ports.QuoteRepository`."""

    def __init__(self, rows: Rows, tenant_id: TenantId) -> None:
        self._rows = rows
        self._tenant_id = tenant_id

    async def add(self, quote: Quote) -> None:
        self._rows.quotes[quote.quote_id] = quote

    async def get(self, quote_id: QuoteId, *, for_update: bool = False) -> Quote | None:
        quote = self._rows.quotes.get(quote_id)
        return quote if quote is not None and quote.tenant_id == self._tenant_id else None

    async def save(self, quote: Quote, *, expected_version: int) -> None:
        stored = await self.get(quote.quote_id)
        if stored is None or stored.version != expected_version:
            raise ConcurrentChange("quote")
        self._rows.quotes[quote.quote_id] = quote

    async def replace_prices(self, quote: Quote) -> None:
        self._rows.quotes[quote.quote_id] = quote


class MemoryOrderRepository:
    """See `app.application.ports.OrderRepository`."""

    def __init__(self, rows: Rows, tenant_id: TenantId) -> None:
        self._rows = rows
        self._tenant_id = tenant_id

    async def add(self, order: Order, transition: OrderTransition) -> None:
        if any(other.quote_id == order.quote_id for other in self._rows.orders.values()):
            raise ConcurrentChange("order")
        self._rows.orders[order.order_id] = order
        self._rows.transitions.append(transition)

    async def get(self, order_id: OrderId, *, for_update: bool = False) -> Order | None:
        order = self._rows.orders.get(order_id)
        return order if order is not None and order.tenant_id == self._tenant_id else None

    async def id_for_quote(self, quote_id: QuoteId) -> OrderId | None:
        own = (order for order in self._rows.orders.values() if order.tenant_id == self._tenant_id)
        return next((order.order_id for order in own if order.quote_id == quote_id), None)

    async def save(self, order: Order, transition: OrderTransition, *, expected_version: int) -> None:
        stored = await self.get(order.order_id)
        if stored is None or stored.version != expected_version:
            raise ConcurrentChange("order")
        self._rows.orders[order.order_id] = order
        self._rows.transitions.append(transition)


class MemoryProcessRouteRepository:
    """See `app.application.ports.ProcessRouteRepository`."""

    def __init__(self, rows: Rows, tenant_id: TenantId) -> None:
        self._rows = rows
        self._tenant_id = tenant_id

    async def current(self, business_process: str) -> list[ProcessRoute]:
        return [
            route
            for route in self._rows.process_routes
            if route.business_process == business_process and route.tenant_id in {None, self._tenant_id}
        ]


class MemoryIdempotencyRepository:
    """See `app.application.ports.IdempotencyRepository`."""

    def __init__(self, rows: Rows, tenant_id: TenantId, claim: Callable[[Key], bool]) -> None:
        self._rows = rows
        self._tenant_id = tenant_id
        self._claim = claim

    async def claim(self, principal: str, key: str) -> bool:
        return self._claim((self._tenant_id, principal, key))

    async def find(self, principal: str, key: str, now: datetime) -> StoredResponse | None:
        response, expires_at = self._rows.responses.get((self._tenant_id, principal, key), (None, now))
        return response if expires_at > now else None

    async def store(
        self, principal: str, key: str, response: StoredResponse, *, now: datetime, expires_at: datetime
    ) -> None:
        if await self.find(principal, key, now) is not None:
            raise ConcurrentChange("idempotency record")
        self._rows.responses[self._tenant_id, principal, key] = (response, expires_at)


class MemoryAuditTrail:
    """See `app.application.ports.AuditTrail`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def append(self, entry: AuditEntry) -> None:
        self._rows.audit.append(entry)


class MemoryOutboxStore:
    """See `app.application.ports.OutboxStore`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        self._rows.outbox.extend(envelopes)
