"""Limits that Redis keeps over all processes: requests of a client, and keys of a tenant."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import httpx
import pytest
from redis.asyncio import Redis

from app.adapters.redis.catalog_cache import RedisCatalogCache
from app.adapters.redis.connection import connect
from app.adapters.redis.guard import TIMEOUT_S, RedisGuard
from app.adapters.redis.keys import Keys
from app.adapters.redis.rate_limiter import RedisRateLimiter
from app.application.rate_limiting import LocalRateLimiter
from app.contracts.loader import RedisKeys, RequestLimit, load_rate_limits, load_redis_keys
from app.domain.catalog import CatalogEdition, ProductOffering
from app.domain.values import OfferingId, TenantId
from tests.integration.api.conftest import Issuer, StartApi
from tests.support.builders import SetClock, fiber
from tests.support.services import Services
from tests.support.waiting import eventually

BURST = 5
EDITION = CatalogEdition(1, "0" * 64)


def limits(without_redis: str = "closed") -> dict[str, RequestLimit]:
    """Five at once, then one a minute: no test takes so long that one more is allowed."""
    document = {"requests": 60, "per": "PT1H", "burst": BURST, "without_redis": without_redis}
    return {"command": RequestLimit.model_validate(document)}


def limiter(redis: Redis, keys: Keys, *, without_redis: str = "closed") -> RedisRateLimiter:
    """A limiter as one process has it; two processes share each limit."""
    clock, declared = SetClock(), limits(without_redis)
    local = LocalRateLimiter(declared, 2, clock)
    return RedisRateLimiter(RedisGuard(redis, clock), keys, declared, local, clock)


async def allowed(limiter: RedisRateLimiter, tenant: TenantId, client: str = "tests", requests: int = 2 * BURST) -> int:
    """How many of some requests go through."""
    return sum([(await limiter.take(tenant, client, "command")).is_allowed for _ in range(requests)])


@pytest.fixture
def tenant(tenant_id: str) -> TenantId:
    return TenantId(tenant_id)


@pytest.fixture
def keys(services: Services) -> Keys:
    return Keys(load_redis_keys(), services.environment)


async def test_all_processes_together_let_through_no_more_than_the_limit(
    redis: Redis, keys: Keys, tenant: TenantId
) -> None:
    first, second = limiter(redis, keys), limiter(redis, keys)

    assert await allowed(first, tenant, requests=3) + await allowed(second, tenant) == BURST
    verdict = await first.take(tenant, "tests", "command")
    assert not verdict.is_allowed
    assert timedelta(seconds=30) < verdict.retry_after <= timedelta(minutes=1)
    assert await allowed(first, tenant, "another-client") == BURST
    assert await allowed(first, TenantId(f"{tenant}-b")) == BURST


@pytest.mark.parametrize("value", ["9999999999999999", "1e300", "inf", "nan", "-1", "soon"])
async def test_an_instant_that_cannot_be_holds_nobody_off(
    redis: Redis, keys: Keys, tenant: TenantId, value: str
) -> None:
    key = keys.key("rate_limit", tenant, client=hashlib.sha256(b"tests").hexdigest()[:32], window="command")
    await redis.set(key, value, px=600_000)

    assert await allowed(limiter(redis, keys), tenant) == BURST


async def test_without_redis_a_class_is_open_or_keeps_its_share(keys: Keys, tenant: TenantId) -> None:
    gone = connect("redis://api@127.0.0.1:1/0", "nothing", "", TIMEOUT_S)

    assert await allowed(limiter(gone, keys, without_redis="open"), tenant) == 2 * BURST
    assert await allowed(limiter(gone, keys, without_redis="closed"), tenant) == BURST // 2
    await gone.aclose()


async def test_without_redis_each_process_of_all_hosts_holds_its_share(
    start_api: StartApi, issuer: Issuer, tenant: TenantId
) -> None:
    api = start_api(API_WORKERS="1", API_HOSTS="100", REDIS_URL="redis://api@127.0.0.1:1/0")
    assert api.wait_for("READY=1"), api.log.read_text()
    headers = {"Authorization": f"Bearer {issuer.token(tenant)}"}

    async with httpx.AsyncClient(base_url=api.http, headers=headers, timeout=20) as client:
        answers = await asyncio.gather(*(client.post("/v1/quotes", json={}) for _ in range(40)))

    # A hundredth of the declared burst of commands, and one more in each fifth of a second.
    burst = load_rate_limits()["command"].burst // 100
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(answers) - len(refused) >= burst
    assert refused


def tighter(kind: str, environment: str, **changes: object) -> Keys:
    """The declared keys, with one kind of them tighter."""
    keys = load_redis_keys()
    changed = {**keys.keys, kind: keys.keys[kind].model_copy(update=changes)}
    return Keys(RedisKeys.model_construct(keys=changed, users=keys.users), environment)


async def test_clients_beyond_the_limit_of_keys_share_one(redis: Redis, services: Services, tenant: TenantId) -> None:
    full = limiter(redis, tighter("rate_limit", services.environment, max_keys_per_tenant=2))

    assert [await allowed(full, tenant, client) for client in ("a", "b", "c", "d")] == [BURST, BURST, BURST, 0]
    assert await allowed(full, TenantId(f"{tenant}-b"), "a") == BURST


async def test_a_tenants_offerings_beyond_the_limit_are_not_cached_until_others_end(
    redis: Redis, services: Services, tenant: TenantId
) -> None:
    keys = tighter("catalog_offering", services.environment, max_keys_per_tenant=2, ttl=timedelta(seconds=1))
    cache = RedisCatalogCache(RedisGuard(redis, SetClock()), keys)
    names = [OfferingId(name) for name in ("a", "b", "c")]

    assert await cache.put_offerings(tenant, EDITION, [named(name) for name in names]) == 2
    assert await cache.put_offerings(TenantId(f"{tenant}-b"), EDITION, [named(names[2])]) == 1

    async def is_cached() -> bool:
        return await cache.put_offerings(tenant, EDITION, [named(names[2])]) == 1

    await eventually(is_cached, "there is room for the third when the first two have ended")


def named(offering_id: OfferingId) -> ProductOffering:
    offering = fiber()
    return ProductOffering(
        offering_id=offering_id,
        name=offering.name,
        product_line=offering.product_line,
        is_sellable=True,
        service_specification=offering.service_specification,
        prices=offering.prices,
        tiers=offering.tiers,
    )
