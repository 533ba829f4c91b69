"""A generated business is the same each time, and follows the rules of the real one."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest

from app.application.generated_history import BATCH_ORDERS, History, Step
from app.contracts.loader import load_environments, may_hold_generated_orders
from app.domain.order import OrderState
from app.domain.pricing import price_item
from app.domain.quote import QuoteState
from app.domain.values import Money
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.wiring import Session

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
STEPS = [Step("reserve-inventory", "inventory"), Step("complete-order", None)]
HISTORY = History(7, "performance", "order-fulfillment-v1", 1, STEPS)
BATCH = HISTORY.batch(3, UNTIL, 400)


def test_the_same_seed_gives_the_same_batch_and_another_seed_another() -> None:
    same = History(7, "performance", "order-fulfillment-v1", 1, STEPS)
    other = History(8, "performance", "order-fulfillment-v1", 1, STEPS)

    assert same.batch(3, UNTIL, 400) == BATCH
    assert HISTORY.first_order(3, UNTIL) == BATCH.orders[0].order.order_id
    assert same.catalog_documents() == HISTORY.catalog_documents()
    assert other.first_order(3, UNTIL) != HISTORY.first_order(3, UNTIL)
    assert not {*other.tenants} & {*HISTORY.tenants}


def test_prices_are_those_of_the_catalog_and_totals_those_of_the_items() -> None:
    offerings = {
        (tenant, offering.offering_id): offering
        for tenant, catalog in zip(HISTORY.tenants, HISTORY.catalogs, strict=True)
        for offering in catalog
    }
    for quote in BATCH.quotes:
        if quote.state is QuoteState.IN_PROGRESS:
            assert quote.total_recurring is None
            continue
        prices = [
            price_item(offerings[quote.tenant_id, item.offering_id], item.quantity, quote.currency)
            for item in quote.items
        ]
        assert [(item.total_one_time, item.total_recurring, item.steps) for item in quote.items] == [
            (price.one_time, price.recurring, price.steps) for price in prices
        ]
        assert quote.total_recurring == Money.total((price.recurring for price in prices), quote.currency)


def test_every_order_is_over_before_the_history_ends_and_fits_its_quote() -> None:
    quotes = {quote.quote_id: quote for quote in BATCH.quotes}
    for fulfilled in BATCH.orders:
        order = fulfilled.order
        assert order.state in {OrderState.COMPLETED, OrderState.FAILED}
        assert order.aggregate_seq == len(fulfilled.transitions) == order.version
        assert order.total_recurring == quotes[order.quote_id].total_recurring
        assert quotes[order.quote_id].updated_at < order.created_at < order.updated_at < UNTIL
        assert all(task.is_settled for task in fulfilled.tasks) is (order.state is OrderState.COMPLETED)
    identifiers = [fulfilled.order.order_id for fulfilled in BATCH.orders]
    assert len({*identifiers, *quotes}) == len(BATCH.orders) + len(BATCH.quotes)


def test_the_business_is_shaped_like_one() -> None:
    """Few tenants have most of the orders, catalogs differ in size, most orders succeed, many quotes become none."""
    batches = [HISTORY.batch(number, UNTIL, 50) for number in range(16)]
    orders = [each.order for batch in batches for each in batch.orders]
    shares = [count for _, count in Counter(order.tenant_id for order in orders).most_common()]
    states = Counter(order.state for order in orders)
    created = sorted(order.created_at for order in orders)
    sizes = [len(catalog) for catalog in HISTORY.catalogs]

    assert shares[0] > len(orders) / 5
    assert len(shares) > len(HISTORY.tenants) / 2
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] >= 5 * sizes[-1]
    assert 0 < states[OrderState.FAILED] < len(orders) / 10
    assert sum(len(batch.quotes) for batch in batches) > 1.5 * len(orders)
    assert created[-1] - created[0] > timedelta(days=365 * 2)
    # More of it is recent.
    assert created[len(orders) // 2] - created[0] > created[-1] - created[len(orders) // 2]


@pytest.mark.parametrize("number", [0, 1, 3, 64, 499, 500])
def test_a_batch_is_the_business_of_few_days_and_its_quotes_follow_each_other(number: int) -> None:
    """As the platform writes: a batch from all the years would meet a page of each index with each of its orders."""
    batch = HISTORY.batch(number, UNTIL, BATCH_ORDERS)
    identifiers = [each.order.quote_id for each in batch.orders]
    created = [quote.created_at for quote in batch.quotes]

    assert max(created) - min(created) < timedelta(days=365 * 3 / 10)
    assert identifiers == sorted(identifiers)


def test_batches_lie_evenly_over_the_years_however_many_there_are() -> None:
    for count in (4, 8, 64):
        begins = sorted(HISTORY.batch(number, UNTIL, 1).orders[0].order.created_at for number in range(count))
        assert max(after - before for before, after in pairwise(begins)) < timedelta(days=365 * 3 * 3.5 / count + 30)


def test_no_environment_of_the_business_holds_generated_orders() -> None:
    named = load_environments()

    assert not named.generated_orders & named.production
    assert "performance" in named.generated_orders
    assert not may_hold_generated_orders("staging")


@pytest.mark.parametrize("environment", ["prod", "dr", "staging"])
def test_the_command_refuses_other_environments_before_anything_else(environment: str) -> None:
    session = Session({}, "ana")
    session.__dict__["settings"] = SimpleNamespace(app_env=environment)  # reaches no database

    outcome = dispatch.run(["load", "orders", "--orders", "1"], session)

    assert outcome.exit_code == 1
    assert outcome.problems[0].startswith(f"{environment} holds no generated orders: expected an environment that")
