"""A process that stood still within a transaction is told so by the server, and must take it for an outage."""

from __future__ import annotations

import asyncio

import pytest

from app.adapters.postgres.outbox import PostgresRelayStore
from app.messaging.retry import Unavailable
from tests.integration.conftest import OpenPool


async def stand_still(store: PostgresRelayStore) -> None:
    async with store._connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
        await asyncio.sleep(0.2)
        await connection.execute("SELECT 1")


async def test_a_transaction_ended_for_standing_still_counts_as_an_outage(open_pool: OpenPool) -> None:
    store = PostgresRelayStore(await open_pool("relay"), "relay-nobody")

    with pytest.raises(Unavailable, match="idle-in-transaction"):
        await stand_still(store)

    assert await store.take_over() == {}
