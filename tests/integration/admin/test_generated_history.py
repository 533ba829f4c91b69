"""Generated orders are stored whole, once, and served like orders that somebody placed."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.rows import dict_row

from app.adapters.postgres.catalog_seed import seed as publish_catalogs
from app.adapters.postgres.generated_history import analyze, is_stored, stage, store, store_missing
from app.adapters.postgres.pool import Connection
from app.application.generated_history import Batch, History, Step
from tests.support.api_client import ApiClient
from tests.support.released_host import find_host
from tests.support.services import Services

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
STEPS = [Step("reserve-inventory", "inventory"), Step("complete-order", None)]


COUNTS = """
    SELECT
        (SELECT count(*) FROM cpq.product_order WHERE tenant_id = ANY(%(tenants)s)) AS orders,
        (SELECT count(*) FROM cpq.quote_item WHERE tenant_id = ANY(%(tenants)s)) AS items,
        (SELECT count(*) FROM cpq.quote_price_step WHERE tenant_id = ANY(%(tenants)s)) AS steps
"""


class SmallHistory(History):
    """With batches that do not stay in the environment by the thousand."""

    def batch(self, number: int, until: datetime, orders: int = 20) -> Batch:
        """Make the beginning of a batch."""
        return super().batch(number, until, orders)


@pytest.fixture
def history(services: Services) -> SmallHistory:
    seed = random.SystemRandom().randrange(10_000, 1_000_000_000)  # rows of earlier runs stay
    return SmallHistory(
        seed, services.environment, "order-fulfillment-v1", 1, STEPS, tenant_count=2, largest_catalog=20
    )


async def test_a_generated_order_is_served_by_the_api_as_it_was_made(
    owner_connection: Connection, history: History
) -> None:
    batch = history.batch(0, UNTIL, 20)
    async with owner_connection.pipeline():
        await publish_catalogs(owner_connection, history.catalog_documents(), "tests")
    assert not await is_stored(owner_connection, history.first_order(0, UNTIL))

    await stage(owner_connection)
    await store(owner_connection, batch)
    await analyze(owner_connection)

    assert await is_stored(owner_connection, history.first_order(0, UNTIL))
    made = batch.orders[0].order
    client = ApiClient(find_host(), tenant=made.tenant_id)
    try:
        order = client.api.get(f"/v1/orders/{made.order_id}").raise_for_status().json()
        quote = client.api.get(f"/v1/quotes/{made.quote_id}").raise_for_status().json()
        catalog = client.api.get("/v1/catalog/offerings").raise_for_status().json()
    finally:
        client.close()
    assert (order["state"], order["totalRecurring"]) == (made.state, str(made.total_recurring.amount))
    assert [item["offeringId"] for item in order["items"]] == [item.offering_id for item in made.items]
    assert (quote["state"], quote["totalRecurring"]) == ("accepted", order["totalRecurring"])
    priced = {each.quote_id: each for each in batch.quotes}[made.quote_id]
    assert [[(step["step"], step["reason"]) for step in item["priceWaterfall"]] for item in quote["items"]] == [
        [(step.step, step.reason) for step in item.steps] for item in priced.items
    ]
    assert {item["offeringId"] for item in order["items"]} <= {offering["id"] for offering in catalog["offerings"]}


async def test_a_batch_that_is_there_is_not_stored_twice_and_half_of_one_never(
    owner_connection: Connection, history: History
) -> None:
    await publish_catalogs(owner_connection, history.catalog_documents(), "tests")
    await stage(owner_connection)
    await store(owner_connection, history.batch(0, UNTIL, 5))

    with pytest.raises(psycopg.errors.UniqueViolation):
        await store(owner_connection, history.batch(0, UNTIL, 6))

    sixth = history.batch(0, UNTIL, 6).orders[5].order
    assert not await is_stored(owner_connection, sixth.order_id)


async def test_several_sessions_store_each_row_once_and_only_what_is_missing(
    owner_connection: Connection, services: Services, history: SmallHistory
) -> None:
    await publish_catalogs(owner_connection, history.catalog_documents(), "tests")
    await stage(owner_connection)
    await store(owner_connection, history.batch(2, UNTIL))
    passed: list[int] = []

    other: Connection = await psycopg.AsyncConnection.connect(
        services.database_url("owner"),
        password=services.secret("db_owner_password"),
        autocommit=True,
        row_factory=dict_row,
    )
    async with other:
        await store_missing([owner_connection, other], history, UNTIL, 5, passed.append)
        await store_missing([owner_connection, other], history, UNTIL, 5, passed.append)

    assert sorted(map(bool, passed)) == [False] * 6 + [True] * 4
    batches = [history.batch(number, UNTIL) for number in range(5)]
    counted = await (await owner_connection.execute(COUNTS, {"tenants": list(history.tenants)})).fetchone()
    assert counted == {
        "orders": sum(len(batch.orders) for batch in batches),
        "items": sum(len(quote.items) for batch in batches for quote in batch.quotes),
        "steps": sum(len(item.steps) for batch in batches for quote in batch.quotes for item in quote.items),
    }
