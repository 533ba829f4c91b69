from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.adapters.redis.connection import connect
from app.adapters.redis.guard import TIMEOUT_S
from tests.integration.api.conftest import issuer, start_api
from tests.support.services import Services

__all__ = ["issuer", "start_api"]


@pytest.fixture
async def redis(services: Services) -> AsyncIterator[Redis]:
    """A connection of the API's user."""
    client = connect(f"redis://api@{services.address('redis')}/0", services.secret("redis_api_password"), "", TIMEOUT_S)
    yield client
    await client.aclose()


@pytest.fixture
async def admin_redis(services: Services) -> AsyncIterator[Redis]:
    """A connection of the operators' user."""
    client = connect(
        f"redis://admin@{services.address('redis')}/0", services.secret("redis_admin_password"), "", TIMEOUT_S
    )
    yield client
    await client.aclose()
