from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from app.domain.errors import OfferingNotSellable, OrderStateConflict, QuoteExpired, QuoteStateConflict
from app.domain.events import (
    OrderAcknowledged,
    OrderCompleted,
    OrderInProgress,
    QuoteAccepted,
    QuoteCreated,
    QuotePriced,
)
from app.domain.order import TRANSITIONS, Order, OrderChange, OrderState
from app.domain.quote import Quote, QuoteState
from app.domain.values import CustomerId, OrderId, QuoteId, TenantId
from tests.support.builders import FIBER, NOON, fiber, legacy

OFFERINGS = {FIBER: fiber()}
LATER = NOON + timedelta(hours=1)


def drafted(**changes: object) -> Quote:
    quote, _ = Quote.draft(
        quote_id=QuoteId(UUID(int=1)),
        tenant_id=TenantId("acme"),
        customer_id=CustomerId("c-1"),
        currency="EUR",
        catalog_version=1,
        valid_until=NOON + timedelta(days=30),
        items=[(fiber(), 10), (fiber(), 1)],
        created_by="somebody",
        now=NOON,
    )
    return replace(quote, **changes)  # type: ignore[arg-type]


def accepted() -> Quote:
    priced, _ = drafted().price(OFFERINGS, NOON)
    quote, _ = priced.accept(NOON)
    return quote


def acknowledged() -> OrderChange:
    return Order.from_quote(accepted(), OFFERINGS, order_id=OrderId(UUID(int=2)), actor="somebody", now=LATER)


def test_a_quote_goes_from_draft_to_accepted_with_an_event_each() -> None:
    draft, created = Quote.draft(
        quote_id=QuoteId(UUID(int=1)),
        tenant_id=TenantId("acme"),
        customer_id=CustomerId("c-1"),
        currency="EUR",
        catalog_version=1,
        valid_until=LATER,
        items=[(fiber(), 1)],
        created_by="somebody",
        now=NOON,
    )
    priced, was_priced = draft.price(OFFERINGS, NOON)
    taken, was_accepted = priced.accept(NOON)

    assert [draft.state, priced.state, taken.state] == [
        QuoteState.IN_PROGRESS,
        QuoteState.APPROVED,
        QuoteState.ACCEPTED,
    ]
    assert [type(event) for event in (created, was_priced, was_accepted)] == [QuoteCreated, QuotePriced, QuoteAccepted]
    assert [event.aggregate_seq for event in (created, was_priced, was_accepted)] == [1, 2, 3]
    assert [draft.version, priced.version, taken.version] == [1, 2, 3]


def test_a_total_is_the_sum_of_its_items() -> None:
    quote, _ = drafted().price(OFFERINGS, NOON)

    assert str(quote.total_recurring) == "389.51"  # 349.56 + 39.95
    assert str(quote.total_one_time) == "548.90"  # 499.00 + 49.90


def test_pricing_again_gives_the_same_price() -> None:
    once, _ = drafted().price(OFFERINGS, NOON)
    twice, _ = once.price(OFFERINGS, LATER)

    assert twice.items == once.items
    assert twice.total_recurring == once.total_recurring


def test_an_offering_not_sold_on_its_own_is_refused() -> None:
    with pytest.raises(OfferingNotSellable):
        Quote.draft(
            quote_id=QuoteId(UUID(int=1)),
            tenant_id=TenantId("acme"),
            customer_id=CustomerId("c-1"),
            currency="EUR",
            catalog_version=1,
            valid_until=LATER,
            items=[(legacy(), 1)],
            created_by="somebody",
            now=NOON,
        )


@pytest.mark.parametrize("state", sorted(set(QuoteState) - {QuoteState.IN_PROGRESS, QuoteState.APPROVED}))
def test_only_an_open_quote_can_be_priced(state: QuoteState) -> None:
    with pytest.raises(QuoteStateConflict):
        drafted(state=state).price(OFFERINGS, NOON)


@pytest.mark.parametrize("state", sorted(set(QuoteState) - {QuoteState.APPROVED}))
def test_only_an_approved_quote_can_be_accepted(state: QuoteState) -> None:
    with pytest.raises(QuoteStateConflict):
        drafted(state=state).accept(NOON)


@pytest.mark.parametrize("state", sorted(set(QuoteState) - {QuoteState.ACCEPTED}))
def test_only_an_accepted_quote_can_be_converted(state: QuoteState) -> None:
    with pytest.raises(QuoteStateConflict):
        drafted(state=state).ensure_convertible(NOON)


def test_a_quote_is_good_until_the_last_moment_of_its_validity_and_no_longer() -> None:
    quote = accepted()
    quote.ensure_convertible(quote.valid_until)

    after = quote.valid_until + timedelta(microseconds=1)
    with pytest.raises(QuoteExpired):
        quote.ensure_convertible(after)
    with pytest.raises(QuoteExpired):
        drafted().price(OFFERINGS, after)
    with pytest.raises(QuoteExpired):
        drafted(state=QuoteState.APPROVED).accept(after)


def test_an_order_has_exactly_the_price_of_its_quote() -> None:
    quote, order = accepted(), acknowledged().order

    assert (order.total_one_time, order.total_recurring) == (quote.total_one_time, quote.total_recurring)
    assert [item.total_recurring for item in order.items] == [item.total_recurring for item in quote.items]
    assert order.catalog_version == quote.catalog_version


def test_a_transition_carries_its_events_sequence() -> None:
    first = acknowledged()
    second = first.order.transition(OrderState.IN_PROGRESS, reason="begun", actor="worker", now=LATER)
    third = second.order.transition(OrderState.COMPLETED, reason="done", actor="worker", now=LATER)

    assert [type(change.event) for change in (first, second, third)] == [
        OrderAcknowledged,
        OrderInProgress,
        OrderCompleted,
    ]
    assert [change.transition.aggregate_seq for change in (first, second, third)] == [1, 2, 3]
    assert [change.event.aggregate_seq for change in (first, second, third)] == [1, 2, 3]
    assert second.transition.from_state is OrderState.ACKNOWLEDGED


@pytest.mark.parametrize("before", list(OrderState))
@pytest.mark.parametrize("after", list(OrderState))
def test_what_the_table_does_not_list_is_refused(before: OrderState, after: OrderState) -> None:
    order = replace(acknowledged().order, state=before)
    if after in TRANSITIONS.get(before, {}):
        assert order.transition(after, reason="test", actor="test", now=LATER).order.state is after
    else:
        with pytest.raises(OrderStateConflict):
            order.transition(after, reason="test", actor="test", now=LATER)
