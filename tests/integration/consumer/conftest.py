from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.adapters.postgres.pool import Connection
from tests.support.consumers import go_to_the_end
from tests.support.event_fixtures import kafka, own_epochs, own_outbox, owner_connection, start_unit, tenant
from tests.support.kafka import Kafka

__all__ = ["kafka", "own_epochs", "own_outbox", "owner_connection", "start_unit", "tenant"]


@pytest.fixture
async def at_the_end(kafka: Kafka, owner_connection: Connection) -> AsyncIterator[None]:
    """The projection's group has read everything there is: a test's records are the next, and what it broke is gone after it."""
    await go_to_the_end(kafka, owner_connection, "order-projection")
    yield
    await go_to_the_end(kafka, owner_connection, "order-projection")
