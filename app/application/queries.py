"""Reads of quotes, orders and the catalog. They change nothing and commit nothing."""

from __future__ import annotations

from dataclasses import dataclass

from app.application.ports import DeclaredReads, UnitOfWork, UnitOfWorkFactory
from app.application.refusals import NotFound
from app.domain.catalog import ProductOffering
from app.domain.errors import NoActiveCatalog
from app.domain.order import Order
from app.domain.quote import Quote
from app.domain.values import Actor, OrderId, QuoteId


@dataclass(frozen=True, slots=True)
class PublishedCatalog:
    """The active catalog version with what it sells."""

    catalog_version: int
    offerings: tuple[ProductOffering, ...]


class Queries:
    """What clients can look up in their own tenant.

    Args:
        open_unit_of_work: for what must be as it is now.
        reads: for what may be some time old.
    """

    def __init__(self, open_unit_of_work: UnitOfWorkFactory, reads: DeclaredReads) -> None:
        self._open_unit_of_work = open_unit_of_work
        self._reads = reads

    async def quote(self, quote_id: QuoteId, actor: Actor) -> Quote:
        """Read a quote with its price waterfall.

        Raises:
            NotFound: not in this tenant.
        """
        async with self._open_unit_of_work(actor.tenant_id) as uow:
            quote = await uow.quotes.get(quote_id)
        if quote is None:
            raise NotFound("There is no such quote.")
        return quote

    async def order(self, order_id: OrderId, actor: Actor) -> Order:
        """Read an order with its items.

        Raises:
            NotFound: not in this tenant.
        """
        order = await self._reads.read("order", actor.tenant_id, lambda uow: uow.orders.get(order_id))
        if order is None:
            raise NotFound("There is no such order.")
        return order

    async def catalog(self, actor: Actor) -> PublishedCatalog:
        """Read the active catalog version.

        Raises:
            NoActiveCatalog: nothing is published.
        """
        catalog = await self._reads.read("catalog", actor.tenant_id, _active_catalog)
        if catalog is None:
            raise NoActiveCatalog("This tenant has no published catalog.")
        return catalog


async def _active_catalog(uow: UnitOfWork) -> PublishedCatalog | None:
    version = await uow.catalog.active_version()
    if version is None:
        return None
    return PublishedCatalog(version, tuple(await uow.catalog.sellable_offerings(version)))
