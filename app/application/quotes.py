"""Commands on quotes: create, price, accept. Each commits state, audit entry and event together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from app.application.idempotency import Executed, IdempotentRequest, Response, execute_once
from app.application.offerings import OfferingReader
from app.application.ports import AuditEntry, UnitOfWork, UnitOfWorkFactory
from app.application.publication import Publication
from app.application.refusals import NotFound, VersionMismatch
from app.domain.commands import AcceptQuote, CreateQuote, PriceQuote
from app.domain.errors import NoActiveCatalog
from app.domain.events import QuoteEvent
from app.domain.quote import Quote
from app.domain.values import Actor, QuoteId, minor_unit_digits
from app.runtime.clock import Clock
from app.runtime.ids import Ids

DEFAULT_VALIDITY = timedelta(days=30)
"""How long a quote binds when the client names no end. Part of the documented API."""


async def get_for_change(uow: UnitOfWork, quote_id: QuoteId, expected_version: int | None) -> Quote:
    """Hold a quote until the transaction ends.

    Raises:
        NotFound: not in this tenant.
        VersionMismatch: it is not at `expected_version` (None: whichever is current).
    """
    quote = await uow.quotes.get(quote_id, for_update=True)
    if quote is None:
        raise NotFound("There is no such quote.")
    if expected_version is not None and quote.version != expected_version:
        raise VersionMismatch(f"The quote is at version {quote.version} by now.")
    return quote


class QuoteCommands:
    """What can be done to quotes."""

    def __init__(
        self,
        *,
        open_unit_of_work: UnitOfWorkFactory,
        offerings: OfferingReader,
        publication: Publication,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._open_unit_of_work = open_unit_of_work
        self._offerings = offerings
        self._publication = publication
        self._clock = clock
        self._ids = ids

    async def create(
        self,
        command: CreateQuote,
        actor: Actor,
        request: IdempotentRequest,
        render: Callable[[Quote], Response],
    ) -> Executed:
        """Write down a quote on the tenant's active catalog version, once per Idempotency-Key.

        Raises:
            DomainError: NoActiveCatalog, OfferingNotFound, OfferingNotSellable, QuoteExpired, MoneyNotRepresentable
                (no such currency), RequestInFlight, IdempotencyKeyReused.
        """

        async def effect(uow: UnitOfWork) -> Response:
            return render(await self._create(uow, command, actor))

        return await execute_once(self._open_unit_of_work, self._clock, actor, request, effect)

    async def price(self, command: PriceQuote, actor: Actor) -> Quote:
        """Price every item from the quote's own catalog version; pricing again replaces the former prices.

        Raises:
            DomainError: NotFound, VersionMismatch, QuoteExpired, QuoteStateConflict, OfferingNotPriced,
                MoneyNotRepresentable.
        """
        async with self._open_unit_of_work(actor.tenant_id) as uow:
            before = await get_for_change(uow, command.quote_id, command.expected_version)
            offerings = await self._offerings.read(
                uow, before.catalog_version, [item.offering_id for item in before.items]
            )
            after, event = before.price(offerings, self._clock.now())
            await uow.quotes.save(after, expected_version=before.version)
            await uow.quotes.replace_prices(after)
            await self._record(uow, actor, "quote.price", before=before, after=after, event=event)
            await uow.commit()
            return after

    async def accept(self, command: AcceptQuote, actor: Actor) -> Quote:
        """Accept the offer as the caller saw it.

        Raises:
            DomainError: NotFound, VersionMismatch, QuoteExpired, QuoteStateConflict.
        """
        async with self._open_unit_of_work(actor.tenant_id) as uow:
            before = await get_for_change(uow, command.quote_id, command.expected_version)
            after, event = before.accept(self._clock.now())
            await uow.quotes.save(after, expected_version=before.version)
            await self._record(uow, actor, "quote.accept", before=before, after=after, event=event)
            await uow.commit()
            return after

    async def _create(self, uow: UnitOfWork, command: CreateQuote, actor: Actor) -> Quote:
        minor_unit_digits(command.currency)
        now = self._clock.now()
        catalog_version = await uow.catalog.active_version()
        if catalog_version is None:
            raise NoActiveCatalog("This tenant has no published catalog.")
        offerings = await self._offerings.read(uow, catalog_version, [item.offering_id for item in command.items])
        quote, event = Quote.draft(
            quote_id=QuoteId(self._ids.new()),
            tenant_id=actor.tenant_id,
            customer_id=command.customer_id,
            currency=command.currency,
            catalog_version=catalog_version,
            valid_until=command.valid_until or now + DEFAULT_VALIDITY,
            items=[(offerings[item.offering_id], item.quantity) for item in command.items],
            created_by=actor.principal,
            now=now,
        )
        await uow.quotes.add(quote)
        await self._record(uow, actor, "quote.create", before=None, after=quote, event=event)
        return quote

    async def _record(
        self, uow: UnitOfWork, actor: Actor, action: str, *, before: Quote | None, after: Quote, event: QuoteEvent
    ) -> None:
        await uow.audit.append(
            AuditEntry(
                audit_id=self._ids.new(),
                actor=actor,
                action=action,
                target_type="quote",
                target_id=str(after.quote_id),
                occurred_at=after.updated_at,
                before=_audited(before) if before else None,
                after=_audited(after),
            )
        )
        await uow.outbox.append([self._publication.of_quote(event, actor.traceparent)])


def _audited(quote: Quote) -> dict[str, Any]:
    return {
        "state": quote.state,
        "version": quote.version,
        "totalOneTime": None if quote.total_one_time is None else str(quote.total_one_time),
        "totalRecurring": None if quote.total_recurring is None else str(quote.total_recurring),
    }
