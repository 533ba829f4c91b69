"""One suite of claims about the use cases and their store. It runs on the memory store and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.adapters.memory.declared_reads import MemoryDeclaredReads
from app.application.idempotency import RETENTION, Executed, IdempotentRequest, Response
from app.application.ports import ConcurrentChange, StoredResponse, UnitOfWorkFactory
from app.application.queries import Queries
from app.application.refusals import IdempotencyKeyReused, NotFound, RequestInFlight, VersionMismatch
from app.domain.commands import AcceptQuote, ConvertQuote, CreateQuote, PriceQuote, RequestedItem
from app.domain.errors import (
    MoneyNotRepresentable,
    NoActiveCatalog,
    OfferingNotFound,
    OfferingNotSellable,
    QuoteAlreadyConverted,
    QuoteExpired,
)
from app.domain.order import Order, OrderState, OrderType
from app.domain.process_route import ProcessRoute
from app.domain.quote import Quote, QuoteState
from app.domain.values import Actor, CustomerId, OfferingId, OrderId, QuoteId, TenantId
from app.runtime.ids import Ids
from tests.support.builders import FIBER, LEGACY, Commands, SetClock


class Harness:
    """What a store gives the suite: units of work, two tenants with a catalog, one without.

    `outbox` and `audit` list what was committed for a tenant: (aggregate_seq, event type) and actions, in order;
    `steps` and `message_id` tell of an order's fulfillment tasks and its pending workflow reference; `choice` of its process.
    """

    def __init__(self, open_unit_of_work: UnitOfWorkFactory, ids: Ids, tenants: Sequence[str]) -> None:
        self.open_unit_of_work = open_unit_of_work
        self.ids = ids
        self.clock = SetClock()
        self.commands = Commands(open_unit_of_work, self.clock, ids)
        self.queries = Queries(open_unit_of_work, MemoryDeclaredReads(open_unit_of_work))
        self.mine, self.others, self.without_catalog = (Actor(TenantId(name), "somebody") for name in tenants)

    async def outbox(self, tenant_id: TenantId) -> list[tuple[int, str]]:
        raise NotImplementedError

    async def audit(self, tenant_id: TenantId) -> list[str]:
        raise NotImplementedError

    async def steps(self, order_id: OrderId) -> set[str]:
        raise NotImplementedError

    async def message_id(self, order_id: OrderId) -> str:
        raise NotImplementedError

    async def choice(self, order_id: OrderId) -> tuple[str, int, UUID | None, str | None]:
        """Process, version of its variables, route and reason, as they stand on the workflow reference."""
        raise NotImplementedError

    async def add_route(self, route: ProcessRoute) -> None:
        raise NotImplementedError

    def request(self, key: str | None = None, sha: str = "0" * 64) -> IdempotentRequest:
        return IdempotentRequest(key or str(self.ids.new()), sha)

    async def create(self, actor: Actor | None = None, request: IdempotentRequest | None = None) -> Executed:
        return await self.commands.quotes.create(
            CreateQuote(CustomerId("c-1"), "EUR", (RequestedItem(FIBER, 10), RequestedItem(FIBER, 1))),
            actor or self.mine,
            request or self.request(),
            rendered_quote,
        )

    async def accepted_quote(self) -> Quote:
        quote_id = identifier(await self.create())
        priced = await self.commands.quotes.price(PriceQuote(quote_id), self.mine)
        return await self.commands.quotes.accept(AcceptQuote(quote_id, priced.version), self.mine)

    async def convert(self, quote: Quote, request: IdempotentRequest | None = None) -> Executed:
        return await self.commands.orders.convert(
            ConvertQuote(quote.quote_id), self.mine, request or self.request(), rendered_order
        )


def rendered_quote(quote: Quote) -> Response:
    return Response(201, {"ETag": str(quote.version)}, str(quote.quote_id).encode())


def rendered_order(order: Order) -> Response:
    return Response(201, {"ETag": str(order.version)}, str(order.order_id).encode())


def routed(harness: Harness, **changes: Any) -> ProcessRoute:
    """A route of the harness's tenant to the second version."""
    values: dict[str, Any] = {
        "route_id": harness.ids.new(),
        "business_process": "order-fulfillment",
        "process_id": "order-fulfillment-v2",
        "priority": 10,
        "valid_from": harness.clock.now(),
        "tenant_id": harness.mine.tenant_id,
    }
    return ProcessRoute(**values | changes)


def identifier(executed: Executed) -> QuoteId:
    return QuoteId(UUID(executed.response.body.decode()))


class PortSuite:
    """Subclasses give a `harness` fixture."""

    async def test_a_quote_comes_back_as_it_was_stored(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()

        assert await harness.queries.quote(quote.quote_id, harness.mine) == quote
        assert str(quote.total_recurring) == "389.51"
        assert quote.items[0].steps[6].amount_after == Decimal("349.5625")

    async def test_an_order_comes_back_as_it_was_stored(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()

        order_id = OrderId(identifier(await harness.convert(quote)))

        order = await harness.queries.order(order_id, harness.mine)
        assert order.state is OrderState.ACKNOWLEDGED
        assert (order.quote_id, order.total_recurring) == (quote.quote_id, quote.total_recurring)

    async def test_each_change_leaves_one_event_and_one_audit_entry(self, harness: Harness) -> None:
        await harness.convert(await harness.accepted_quote())

        assert await harness.outbox(harness.mine.tenant_id) == [
            (1, "QuoteCreated"),
            (2, "QuotePriced"),
            (3, "QuoteAccepted"),
            (1, "OrderAcknowledged"),
        ]
        assert await harness.audit(harness.mine.tenant_id) == [
            "quote.create",
            "quote.price",
            "quote.accept",
            "order.create",
        ]

    async def test_a_conversion_plans_every_step_and_asks_for_one_process(self, harness: Harness) -> None:
        order_id = OrderId(identifier(await harness.convert(await harness.accepted_quote())))

        assert await harness.steps(order_id) == set(harness.commands.process.steps)
        assert await harness.message_id(order_id) == f"{order_id}:order-fulfillment-v1"

    async def test_an_order_gets_the_version_of_its_tenants_route_and_the_choice_is_kept(
        self, harness: Harness
    ) -> None:
        route = routed(harness, order_type=OrderType.ADD, catalog_to=1)
        await harness.add_route(route)

        mine = OrderId(identifier(await harness.convert(await harness.accepted_quote())))
        harness.mine, harness.others = harness.others, harness.mine
        others = OrderId(identifier(await harness.convert(await harness.accepted_quote())))

        reason = f"priority 10: {route.description}"
        assert await harness.choice(mine) == ("order-fulfillment-v2", 2, route.route_id, reason)
        assert await harness.message_id(mine) == f"{mine}:order-fulfillment-v2"
        assert (await harness.choice(others))[:2] == ("order-fulfillment-v1", 1)

    async def test_a_tenant_sees_its_own_routes_and_those_for_all_and_no_others(self, harness: Harness) -> None:
        mine, theirs = routed(harness), routed(harness, tenant_id=harness.others.tenant_id)
        await harness.add_route(mine)
        await harness.add_route(theirs)

        async with harness.open_unit_of_work(harness.mine.tenant_id) as uow:
            seen = await uow.process_routes.current("order-fulfillment")

        assert mine.route_id in {route.route_id for route in seen}
        assert {route.tenant_id for route in seen} <= {None, harness.mine.tenant_id}

    async def test_a_route_behind_a_release_flag_counts_where_the_flag_is_on(self, harness: Harness) -> None:
        await harness.add_route(routed(harness, flag="order-fulfillment-v2"))

        off = OrderId(identifier(await harness.convert(await harness.accepted_quote())))
        harness.commands.flags.tenant_values[harness.mine.tenant_id, "order-fulfillment-v2"] = True
        on = OrderId(identifier(await harness.convert(await harness.accepted_quote())))

        assert (await harness.choice(off))[0] == "order-fulfillment-v1"
        assert (await harness.choice(on))[0] == "order-fulfillment-v2"

    async def test_a_route_to_a_version_that_only_a_later_release_knows_is_passed_over(self, harness: Harness) -> None:
        await harness.add_route(routed(harness, process_id="order-fulfillment-v9"))

        order_id = OrderId(identifier(await harness.convert(await harness.accepted_quote())))

        assert (await harness.choice(order_id))[0] == "order-fulfillment-v1"

    async def test_another_tenants_quote_is_as_absent_as_one_that_never_was(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()
        never = QuoteId(harness.ids.new())

        answers = []
        for quote_id in (quote.quote_id, never):
            for attempt in (
                harness.queries.quote(quote_id, harness.others),
                harness.commands.quotes.price(PriceQuote(quote_id), harness.others),
                harness.commands.quotes.accept(AcceptQuote(quote_id, 3), harness.others),
                harness.commands.orders.convert(
                    ConvertQuote(quote_id), harness.others, harness.request(), rendered_order
                ),
            ):
                with pytest.raises(NotFound) as caught:
                    await attempt
                answers.append(caught.value.detail)
        assert len(set(answers)) == 1
        assert await harness.outbox(harness.others.tenant_id) == []

    async def test_the_same_key_and_request_has_one_effect_and_the_same_bytes(self, harness: Harness) -> None:
        request = harness.request()

        first, second = await harness.create(request=request), await harness.create(request=request)

        assert (first.replayed, second.replayed) == (False, True)
        assert second.response == first.response
        assert await harness.audit(harness.mine.tenant_id) == ["quote.create"]

    async def test_the_same_key_with_another_request_is_refused(self, harness: Harness) -> None:
        await harness.create(request=harness.request("k-1", "a" * 64))

        with pytest.raises(IdempotencyKeyReused):
            await harness.create(request=harness.request("k-1", "b" * 64))

    async def test_a_key_belongs_to_its_tenant_and_principal(self, harness: Harness) -> None:
        request = harness.request()
        somebody_else = Actor(harness.mine.tenant_id, "somebody-else")

        made = [await harness.create(actor, request) for actor in (harness.mine, somebody_else, harness.others)]

        assert len({each.response.body for each in made}) == 3
        assert not any(each.replayed for each in made)

    async def test_a_key_is_forgotten_after_its_time(self, harness: Harness) -> None:
        request = harness.request()
        first = await harness.create(request=request)
        harness.clock.advance(RETENTION)

        again = await harness.create(request=request)

        assert not again.replayed
        assert again.response.body != first.response.body

    async def test_a_key_in_use_is_answered_at_once(self, harness: Harness) -> None:
        request = harness.request()
        async with harness.open_unit_of_work(harness.mine.tenant_id) as uow:
            assert await uow.idempotency.claim(harness.mine.principal, request.key)

            with pytest.raises(RequestInFlight):
                await harness.create(request=request)
        assert not (await harness.create(request=request)).replayed

    async def test_an_unexpired_record_is_never_replaced(self, harness: Harness) -> None:
        response, now = StoredResponse("a" * 64, 201, {"ETag": '"1"'}, b"{}"), harness.clock.now()
        async with harness.open_unit_of_work(harness.mine.tenant_id) as uow:
            await uow.idempotency.store("p", "k", response, now=now, expires_at=now + RETENTION)
            with pytest.raises(ConcurrentChange):
                await uow.idempotency.store("p", "k", response, now=now, expires_at=now + RETENTION)

    async def test_a_refusal_leaves_nothing_behind(self, harness: Harness) -> None:
        request = harness.request()
        quote_id = identifier(await harness.create())
        before = await harness.audit(harness.mine.tenant_id)

        with pytest.raises(NotFound):
            await harness.commands.orders.convert(
                ConvertQuote(QuoteId(harness.ids.new())), harness.mine, request, rendered_order
            )
        with pytest.raises(VersionMismatch):
            await harness.commands.quotes.price(PriceQuote(quote_id, expected_version=7), harness.mine)

        assert await harness.audit(harness.mine.tenant_id) == before
        assert not (await harness.create(request=request)).replayed

    async def test_what_is_not_committed_did_not_happen(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()
        async with harness.open_unit_of_work(harness.mine.tenant_id) as uow:
            changed = replace(quote, version=quote.version + 1, state=QuoteState.CANCELLED)
            await uow.quotes.save(changed, expected_version=quote.version)

        assert await harness.queries.quote(quote.quote_id, harness.mine) == quote

    async def test_a_stale_write_loses(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()
        async with harness.open_unit_of_work(harness.mine.tenant_id) as uow:
            with pytest.raises(ConcurrentChange):
                await uow.quotes.save(quote, expected_version=quote.version - 1)

    async def test_a_quote_becomes_one_order_only(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()
        order_id = identifier(await harness.convert(quote))

        with pytest.raises(QuoteAlreadyConverted, match=str(order_id)):
            await harness.convert(quote)

    async def test_concurrent_conversions_make_one_order(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()

        outcomes = await asyncio.gather(*(harness.convert(quote) for _ in range(5)), return_exceptions=True)

        made = [each for each in outcomes if isinstance(each, Executed)]
        lost = [each for each in outcomes if not isinstance(each, Executed)]
        assert len(made) == 1
        assert all(isinstance(each, QuoteAlreadyConverted | ConcurrentChange) for each in lost)
        events = await harness.outbox(harness.mine.tenant_id)
        assert [kind for _, kind in events].count("OrderAcknowledged") == 1

    async def test_concurrent_requests_of_one_key_have_one_effect(self, harness: Harness) -> None:
        quote, request = await harness.accepted_quote(), harness.request()

        outcomes = await asyncio.gather(*(harness.convert(quote, request) for _ in range(5)), return_exceptions=True)

        bodies = {each.response.body for each in outcomes if isinstance(each, Executed)}
        assert len(bodies) == 1
        assert all(isinstance(each, Executed | RequestInFlight | ConcurrentChange) for each in outcomes)
        assert sum(not each.replayed for each in outcomes if isinstance(each, Executed)) == 1

    async def test_a_price_that_changed_since_is_not_accepted(self, harness: Harness) -> None:
        quote_id = identifier(await harness.create())
        first = await harness.commands.quotes.price(PriceQuote(quote_id), harness.mine)
        await harness.commands.quotes.price(PriceQuote(quote_id), harness.mine)

        with pytest.raises(VersionMismatch):
            await harness.commands.quotes.accept(AcceptQuote(quote_id, first.version), harness.mine)

    async def test_an_expired_quote_can_be_read_but_not_acted_upon(self, harness: Harness) -> None:
        quote = await harness.accepted_quote()
        harness.clock.advance(timedelta(days=31))

        with pytest.raises(QuoteExpired):
            await harness.convert(quote)
        assert await harness.queries.quote(quote.quote_id, harness.mine) == quote

    @pytest.mark.parametrize(
        ("offering", "currency", "refusal"),
        [
            (OfferingId("no-such"), "EUR", OfferingNotFound),
            (LEGACY, "EUR", OfferingNotSellable),
            (FIBER, "eur", MoneyNotRepresentable),
        ],
    )
    async def test_what_the_catalog_does_not_sell_is_refused(
        self, harness: Harness, offering: OfferingId, currency: str, refusal: type[Exception]
    ) -> None:
        command = CreateQuote(CustomerId("c-1"), currency, (RequestedItem(offering, 1),))

        with pytest.raises(refusal):
            await harness.commands.quotes.create(command, harness.mine, harness.request(), rendered_quote)

    async def test_a_tenant_without_a_catalog_cannot_quote(self, harness: Harness) -> None:
        with pytest.raises(NoActiveCatalog):
            await harness.create(harness.without_catalog)
        with pytest.raises(NoActiveCatalog):
            await harness.queries.catalog(harness.without_catalog)

    async def test_the_catalog_lists_what_is_sold_on_its_own(self, harness: Harness) -> None:
        catalog = await harness.queries.catalog(harness.mine)

        assert catalog.catalog_version == 1
        assert [offering.offering_id for offering in catalog.offerings] == [FIBER]
        assert [str(price.unit_amount.normalize()) for price in catalog.offerings[0].prices] == ["49.9", "39.95"]
