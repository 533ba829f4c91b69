"""A business of years made up from a seed: tenants, catalogs, quotes and fulfilled orders, for environments that measure capacity.

What is priced, ordered and moved on is so by the domain's own rules. Every order is over: one under way would need an
instance in the workflow engine, which nobody made up. The same seed gives the same history, batch by batch, whatever
number of batches is asked for.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import accumulate
from typing import Any
from uuid import UUID

from app.domain.catalog import (
    PriceAdjustmentTier,
    PriceType,
    ProductOffering,
    ProductOfferingPrice,
    RecurringPeriod,
)
from app.domain.external_calls import AttemptState, ExternalCallAttempt, idempotency_key
from app.domain.fulfillment import FulfillmentTask, TaskState, WorkflowReference, WorkflowRequest, WorkflowState
from app.domain.order import Order, OrderState, OrderTransition
from app.domain.pricing import ItemPrice, price_item
from app.domain.quote import ItemAction, Quote, QuoteItem, QuoteState
from app.domain.values import CustomerId, Money, OfferingId, OrderId, QuoteId, TenantId

BATCH_ORDERS = 2000
"""Orders of one transaction."""

_SLICES = 64
"""Into so many parts the years are divided; a batch is the business of one of them.

The platform itself writes in the order of time: its keys meet few pages of an index at a time. A batch from all the years
would meet as many pages as it has orders, and each would go to the log as a whole.
"""

_ACTOR = "generated"
_CATALOG_VERSION = 1
_TENANT_SKEW = 1.1
_YEARS = 3
_FAILED = 0.04
_QUOTES_LEFT_BEHIND = 0.7
"""For each order so many quotes that never became one."""
_CURRENCIES = ("EUR", "USD", "GBP")
_LINES = {
    "broadband": ("Fiber", "internet-access"),
    "mobile": ("Mobile", "mobile-subscription"),
    "voice": ("Voice", "voice-line"),
    "security": ("Firewall", "managed-firewall"),
    "cloud": ("Compute", "virtual-machine"),
}
_QUANTITIES = (1, 1, 1, 1, 2, 2, 3, 5, 10, 25, 100)


@dataclass(frozen=True, slots=True)
class FulfilledOrder:
    """An order that is over, with everything that its life left behind."""

    order: Order
    transitions: tuple[OrderTransition, ...]
    tasks: tuple[FulfillmentTask, ...]
    attempts: tuple[ExternalCallAttempt, ...]
    request: WorkflowRequest
    reference: WorkflowReference


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction stores."""

    number: int
    quotes: tuple[Quote, ...]
    orders: tuple[FulfilledOrder, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the process, and the external system that it calls, if any."""

    job_type: str
    external_system: str | None


class History:
    """The business that a seed stands for.

    Args:
        seed: what everything is made from.
        environment: name of the environment, part of the keys of external calls.
        process_id: the process that orders went through, with the version of its variables.
        steps: its steps in order.
        tenant_count: how many tenants share the business.
        largest_catalog: offerings of the busiest tenant; others have fewer.
    """

    def __init__(
        self,
        seed: int,
        environment: str,
        process_id: str,
        variables_version: int,
        steps: Sequence[Step],
        *,
        tenant_count: int = 20,
        largest_catalog: int = 400,
    ) -> None:
        self._seed = seed
        self._environment = environment
        self._process_id = process_id
        self._variables_version = variables_version
        self._steps = tuple(steps)
        self._tenant_count = tenant_count
        self._largest_catalog = largest_catalog
        self._priced: dict[tuple[int, int, int], ItemPrice] = {}

    @cached_property
    def tenants(self) -> tuple[TenantId, ...]:
        """The tenants, the busiest first."""
        return tuple(TenantId(f"load-{self._seed}-{number:02d}") for number in range(1, self._tenant_count + 1))

    @cached_property
    def catalogs(self) -> tuple[tuple[ProductOffering, ...], ...]:
        """The offerings of each tenant: hundreds for the largest, tens for the smallest."""
        return tuple(self._catalog(rank) for rank in range(self._tenant_count))

    @cached_property
    def _shares(self) -> list[float]:
        return list(accumulate(1 / (rank + 1) ** _TENANT_SKEW for rank in range(self._tenant_count)))

    def catalog_documents(self) -> list[dict[str, Any]]:
        """The catalogs as a catalog is declared in a file, for its publication."""
        return [
            {
                "tenant_id": tenant,
                "display_name": f"Generated tenant {tenant}",
                "default_currency": _CURRENCIES[0],
                "offerings": [_document(offering) for offering in catalog],
            }
            for tenant, catalog in zip(self.tenants, self.catalogs, strict=True)
        ]

    def first_order(self, number: int, until: datetime) -> OrderId:
        """The order by which a batch is known to be there."""
        return self.batch(number, until, 1).orders[0].order.order_id

    def batch(self, number: int, until: datetime, orders: int = BATCH_ORDERS) -> Batch:
        """Make one batch, or the beginning of it.

        Args:
            number: which one, from 0.
            until: when the history ends; everything happened before.
            orders: how many orders.
        """
        chance = random.Random(f"{self._seed}/batch/{number}")  # noqa: S311 - made-up business, no secret
        quotes: list[Quote] = []
        fulfilled: list[FulfilledOrder] = []
        for place in range(orders):
            rank = self._any_tenant(chance)
            created = _moment(chance, number, place, until)
            quote = self._quote(chance, rank, QuoteState.ACCEPTED, created)
            quotes.append(quote)
            fulfilled.append(self._fulfilled(chance, rank, quote))
            if chance.random() < _QUOTES_LEFT_BEHIND:
                state = chance.choice((QuoteState.IN_PROGRESS, QuoteState.APPROVED, QuoteState.ACCEPTED))
                created = _moment(chance, number, place, until)
                quotes.append(self._quote(chance, self._any_tenant(chance), state, created))
        return Batch(number, tuple(quotes), tuple(fulfilled))

    def _any_tenant(self, chance: random.Random) -> int:
        return bisect(self._shares, chance.random() * self._shares[-1])

    def _catalog(self, rank: int) -> tuple[ProductOffering, ...]:
        chance = random.Random(f"{self._seed}/catalog/{rank}")  # noqa: S311 - made-up business, no secret
        lines = list(_LINES)
        return tuple(
            _offering(chance, number, chance.choice(lines))
            for number in range(1, max(20, round(self._largest_catalog / (rank + 1) ** 0.7)) + 1)
        )

    def _quote(self, chance: random.Random, rank: int, state: QuoteState, created: datetime) -> Quote:
        customer = CustomerId(f"customer-{int(chance.paretovariate(0.8)) % 200_000:06d}")
        items = self._items(chance, rank)
        currency = _CURRENCIES[0]
        quote = Quote(
            quote_id=QuoteId(_identifier(chance, created)),
            tenant_id=self.tenants[rank],
            version=1,
            aggregate_seq=1,
            state=QuoteState.IN_PROGRESS,
            customer_id=customer,
            currency=currency,
            catalog_version=_CATALOG_VERSION,
            valid_until=created + timedelta(days=30),
            priced_at=None,
            items=items,
            total_one_time=None,
            total_recurring=None,
            created_by=_ACTOR,
            created_at=created,
            updated_at=created,
        )
        if state is QuoteState.IN_PROGRESS:
            return replace(quote, items=tuple(QuoteItem(i.item_no, i.action, i.offering_id, i.quantity) for i in items))
        priced_at = created + timedelta(minutes=chance.randint(1, 90))
        # As Quote.price would leave it; the prices of items are the domain's, each computed once.
        priced = replace(
            quote,
            version=2,
            aggregate_seq=2,
            state=QuoteState.APPROVED,
            priced_at=priced_at,
            total_one_time=Money.total((item.total_one_time for item in items if item.total_one_time), currency),
            total_recurring=Money.total((item.total_recurring for item in items if item.total_recurring), currency),
            updated_at=priced_at,
        )
        if state is QuoteState.APPROVED:
            return priced
        return priced.accept(priced_at + timedelta(hours=chance.randint(1, 72)))[0]

    def _items(self, chance: random.Random, rank: int) -> tuple[QuoteItem, ...]:
        catalog = self.catalogs[rank]
        count = min(len(catalog), 12, 1 + int(chance.expovariate(0.6)))
        # The first offerings of a catalog are its best sellers.
        numbers = {min(len(catalog) - 1, int(chance.paretovariate(0.7)) - 1) for _ in range(count)}
        return tuple(
            self._item(item_no, rank, number, chance.choice(_QUANTITIES))
            for item_no, number in enumerate(sorted(numbers), start=1)
        )

    def _item(self, item_no: int, rank: int, number: int, quantity: int) -> QuoteItem:
        offering = self.catalogs[rank][number]
        price = self._priced.get((rank, number, quantity))
        if price is None:
            price = self._priced[rank, number, quantity] = price_item(offering, quantity, _CURRENCIES[0])
        return QuoteItem(
            item_no, ItemAction.ADD, offering.offering_id, quantity, price.one_time, price.recurring, price.steps
        )

    def _fulfilled(self, chance: random.Random, rank: int, quote: Quote) -> FulfilledOrder:
        catalog = {offering.offering_id: offering for offering in self._offered(rank, quote)}
        accepted = quote.updated_at + timedelta(minutes=chance.randint(1, 60))
        change = Order.from_quote(
            quote, catalog, order_id=OrderId(_identifier(chance, accepted)), actor=_ACTOR, now=accepted
        )
        transitions = [change.transition]
        begun = accepted + timedelta(seconds=chance.randint(1, 20))
        change = change.order.transition(OrderState.IN_PROGRESS, reason="fulfillment began", actor=_ACTOR, now=begun)
        transitions.append(change.transition)
        fails = chance.random() < _FAILED
        ended = begun + timedelta(seconds=len(self._steps) * chance.randint(2, 600))
        tasks, attempts = self._work(chance, change.order, begun, ended, fails=fails)
        end = OrderState.FAILED if fails else OrderState.COMPLETED
        change = change.order.transition(end, reason="fulfillment ended", actor=_ACTOR, now=ended)
        transitions.append(change.transition)
        order = change.order
        request = WorkflowRequest(order.order_id, order.tenant_id, self._process_id, self._variables_version, accepted)
        reference = WorkflowReference(
            order_id=order.order_id,
            tenant_id=order.tenant_id,
            process_id=self._process_id,
            variables_schema_version=self._variables_version,
            message_id=request.message_id,
            state=WorkflowState.FAILED if fails else WorkflowState.COMPLETED,
            start_attempts=1,
            process_instance_key=chance.getrandbits(52),
            started_at=begun,
            finished_at=ended,
        )
        return FulfilledOrder(order, tuple(transitions), tasks, attempts, request, reference)

    def _offered(self, rank: int, quote: Quote) -> list[ProductOffering]:
        return [self.catalogs[rank][int(item.offering_id.rpartition("-")[2]) - 1] for item in quote.items]

    def _work(
        self, chance: random.Random, order: Order, begun: datetime, ended: datetime, *, fails: bool
    ) -> tuple[tuple[FulfillmentTask, ...], tuple[ExternalCallAttempt, ...]]:
        """An order that fails does so at its first step, before it had an effect outside."""
        tasks: list[FulfillmentTask] = []
        attempts: list[ExternalCallAttempt] = []
        share = (ended - begun) / len(self._steps)
        for number, step in enumerate(self._steps):
            task = FulfillmentTask(order.order_id, order.tenant_id, step.job_type, TaskState.PENDING, begun)
            if fails and number > 0:
                tasks.append(task)
                continue
            done = replace(
                task,
                state=TaskState.FAILED if fails else TaskState.COMPLETED,
                run_count=1,
                updated_at=begun + share * (number + 1),
                external_reference=(
                    f"{step.external_system}-{chance.getrandbits(48):012x}"
                    if step.external_system and not fails
                    else None
                ),
                last_error="refused" if fails else None,
            )
            tasks.append(done)
            if step.external_system:
                attempts.append(self._attempt(chance, done, step.external_system, begun + share * number))
        return tuple(tasks), tuple(attempts)

    def _attempt(
        self, chance: random.Random, task: FulfillmentTask, system: str, prepared: datetime
    ) -> ExternalCallAttempt:
        key = idempotency_key(self._environment, task.tenant_id, task.order_id, task.step, task.epoch)
        succeeded = task.state is TaskState.COMPLETED
        return ExternalCallAttempt(
            attempt_id=_identifier(chance, prepared),
            tenant_id=task.tenant_id,
            order_id=task.order_id,
            step=task.step,
            epoch=task.epoch,
            attempt_no=1,
            external_system=system,
            idempotency_key=key,
            request_sha256=hashlib.sha256(key.encode()).hexdigest(),
            state=AttemptState.SUCCEEDED if succeeded else AttemptState.FAILED,
            prepared_at=prepared,
            finished_at=task.updated_at,
            response_status=201 if succeeded else 422,
            external_reference=task.external_reference,
            error=task.last_error,
        )


def _moment(chance: random.Random, number: int, place: int, until: datetime) -> datetime:
    """When a quote of a batch was made: in the batch's own part of the years, later than that of the place before.

    The part is the batch's number with its bits in reverse, as a fraction: however many batches there are, they lie
    evenly over the years.
    """
    part = int(f"{number:b}"[::-1], 2) / (1 << number.bit_length())
    share = part + ((place + chance.random()) / BATCH_ORDERS - part) / _SLICES
    # Business grows: more of it is recent.
    age = timedelta(days=365 * _YEARS) * (1 - math.pow(share, 0.6))
    return until - timedelta(days=7) - age


def _offering(chance: random.Random, number: int, line: str) -> ProductOffering:
    name, specification = _LINES[line]
    once, monthly = Decimal(chance.randrange(0, 30000)) / 100, Decimal(chance.randrange(199, 49900)) / 100
    prices = []
    for place, currency in enumerate(_CURRENCIES[: chance.randint(1, len(_CURRENCIES))]):
        factor = Decimal(100 + 7 * place) / 100
        prices.append(ProductOfferingPrice(PriceType.RECURRING, currency, monthly * factor, RecurringPeriod.MONTH))
        if once:
            prices.append(ProductOfferingPrice(PriceType.ONE_TIME, currency, once * factor))
    tiers = tuple(
        PriceAdjustmentTier(PriceType.RECURRING, quantity, Decimal(percent), f"volume, {quantity} or more")
        for quantity, percent in ((10, 5), (25, 10), (100, 15))[: chance.randint(0, 3)]
    )
    return ProductOffering(
        offering_id=OfferingId(f"{line}-{number:04d}"),
        name=f"{name} {number}",
        product_line=line,
        is_sellable=True,
        service_specification=specification,
        prices=tuple(prices),
        tiers=tiers,
    )


def _document(offering: ProductOffering) -> Mapping[str, Any]:
    return {
        "offering_id": offering.offering_id,
        "name": offering.name,
        "product_line": offering.product_line,
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


def _identifier(chance: random.Random, at: datetime) -> UUID:
    """A UUIDv7 of the moment, as the platform would have given: keys of one table lie in time order."""
    moment = int(at.timestamp() * 1000) << 80
    return UUID(int=moment | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62))
