from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from app.adapters.redis.catalog_cache import RedisCatalogCache
from app.adapters.redis.connection import connect
from app.adapters.redis.guard import PAUSE_S, TIMEOUT_S, RedisGuard
from app.adapters.redis.keys import Keys
from app.contracts.loader import load_redis_keys
from app.domain.catalog import CatalogEdition
from app.domain.values import OfferingId, TenantId
from tests.support.builders import FIBER, SetClock, fiber
from tests.support.services import Services

FIRST, SECOND = CatalogEdition(1, "1" * 64), CatalogEdition(2, "2" * 64)


def key(keys: Keys, tenant: TenantId, catalog_version: int) -> str:
    return keys.key("catalog_offering", tenant, catalog_version=catalog_version, offering_id=FIBER)


@pytest.fixture
def keys(services: Services) -> Keys:
    return Keys(load_redis_keys(), services.environment)


@pytest.fixture
async def redis(services: Services) -> AsyncIterator[Redis]:
    client = connect(f"redis://api@{services.address('redis')}/0", services.secret("redis_api_password"), "", TIMEOUT_S)
    yield client
    await client.aclose()


@pytest.fixture
def tenant(tenant_id: str) -> TenantId:
    return TenantId(tenant_id)


async def test_an_offering_comes_back_exactly(redis: Redis, keys: Keys, tenant: TenantId) -> None:
    cache = RedisCatalogCache(RedisGuard(redis, SetClock()), keys)
    offering = fiber(one_time="0.100000", recurring="39.950000")

    await cache.put_offerings(tenant, FIRST, [offering])

    found = await cache.offerings(tenant, FIRST, [FIBER, OfferingId("no-such")])
    assert found == {FIBER: offering}
    assert [str(price.unit_amount) for price in found[FIBER].prices] == ["0.100000", "39.950000"]


async def test_another_tenant_version_or_environment_has_none_of_it(redis: Redis, keys: Keys, tenant: TenantId) -> None:
    cache = RedisCatalogCache(RedisGuard(redis, SetClock()), keys)
    await cache.put_offerings(tenant, FIRST, [fiber()])

    assert await cache.offerings(TenantId(f"{tenant}-b"), FIRST, [FIBER]) == {}
    assert await cache.offerings(tenant, SECOND, [FIBER]) == {}
    # Nor when a copied database, or a wrong URL, brings a value of another environment under a key of ours.
    value = json.loads(await redis.get(key(keys, tenant, 1)) or b"")
    await redis.set(key(keys, tenant, 1), json.dumps(value | {"environment": "elsewhere"}), px=10_000)
    assert await cache.offerings(tenant, FIRST, [FIBER]) == {}


async def test_a_version_that_is_published_again_with_other_content_has_nothing_of_the_first(
    redis: Redis, keys: Keys, tenant: TenantId
) -> None:
    cache = RedisCatalogCache(RedisGuard(redis, SetClock()), keys)
    await cache.put_offerings(tenant, FIRST, [fiber(recurring="1.000000")])
    after_the_restore = CatalogEdition(FIRST.catalog_version, "f" * 64)

    assert await cache.offerings(tenant, after_the_restore, [FIBER]) == {}
    await cache.put_offerings(tenant, after_the_restore, [fiber()])
    assert await cache.offerings(tenant, after_the_restore, [FIBER]) == {FIBER: fiber()}
    assert await cache.offerings(tenant, FIRST, [FIBER]) == {}


@pytest.mark.parametrize("value", [b"garbage", b"{}", b'{"tenant_id":"x","catalog_version":1,"offering":null}', b""])
async def test_nonsense_under_a_key_is_no_answer(redis: Redis, keys: Keys, tenant: TenantId, value: bytes) -> None:
    await redis.set(key(keys, tenant, 1), value, px=10_000)

    assert await RedisCatalogCache(RedisGuard(redis, SetClock()), keys).offerings(tenant, FIRST, [FIBER]) == {}


async def test_a_value_under_the_wrong_key_is_not_believed(redis: Redis, keys: Keys, tenant: TenantId) -> None:
    cache = RedisCatalogCache(RedisGuard(redis, SetClock()), keys)
    await cache.put_offerings(tenant, FIRST, [fiber()])
    value = await redis.get(key(keys, tenant, 1))
    assert value is not None
    await redis.set(key(keys, tenant, 2), value, px=10_000)

    assert await cache.offerings(tenant, SECOND, [FIBER]) == {}


async def test_a_redis_that_is_gone_is_no_error_and_left_alone_for_a_while(
    redis: Redis, keys: Keys, tenant: TenantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SetClock()
    gone = connect("redis://api@127.0.0.1:1/0", "nothing", "", TIMEOUT_S)
    guard = RedisGuard(gone, clock)
    cache = RedisCatalogCache(guard, keys)
    await RedisCatalogCache(RedisGuard(redis, clock), keys).put_offerings(tenant, FIRST, [fiber()])

    assert await cache.offerings(tenant, FIRST, [FIBER]) == {}
    monkeypatch.setattr(guard, "_client", redis)  # it is back, but not asked yet
    assert await cache.offerings(tenant, FIRST, [FIBER]) == {}
    clock.advance(timedelta(seconds=PAUSE_S))
    assert await cache.offerings(tenant, FIRST, [FIBER]) == {FIBER: fiber()}
    await gone.aclose()
