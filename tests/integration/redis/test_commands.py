"""Operators look into the cache and fill it; a publication changes what is sold at once."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from redis.asyncio import Redis

from app.adapters.postgres.catalog_publication import Publications
from app.adapters.postgres.catalog_seed import content_sha256, seed
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.unit_of_work import unit_of_work_factory
from app.adapters.redis.catalog_cache import RedisCatalogCache
from app.adapters.redis.guard import RedisGuard
from app.adapters.redis.keys import Keys
from app.application.repair import RepairReason
from app.contracts.loader import load_redis_keys
from app.domain.catalog import CatalogEdition
from app.domain.values import TenantId
from app.runtime.ids import UuidV7Ids
from tests.integration.api.conftest import Issuer, StartApi
from tests.integration.conftest import OpenPool
from tests.support.builders import FIBER, SetClock, fiber, published
from tests.support.operator import Operator
from tests.support.services import Services
from tests.support.waiting import eventually

WHY = ("--reason", "ticket 4711: the new tariff")


@pytest.fixture
def ana(services: Services, tmp_path: Path) -> Operator:
    return Operator(services, tmp_path)


@pytest.fixture
async def tenant(admin_connection: Connection, tenant_id: str) -> TenantId:
    """A tenant that sells catalog version 1."""
    await seed(admin_connection, [published(tenant_id, [fiber()])], "tests")
    return TenantId(tenant_id)


@pytest.fixture
def cache(redis: Redis, services: Services) -> RedisCatalogCache:
    """The cache as the API of this environment has it."""
    return RedisCatalogCache(RedisGuard(redis, SetClock()), Keys(load_redis_keys(), services.environment))


def catalog(tenant: str, unit_amount: str) -> dict[str, Any]:
    """A catalog document with another price."""
    document = published(tenant, [fiber(recurring=unit_amount)])
    return {"tenant_id": tenant, "offerings": document["offerings"]}


def edition(tenant: str, version: int, unit_amount: str | None = None) -> CatalogEdition:
    """A version by the content that these tests publish under its number."""
    content = published(tenant, [fiber()]) if unit_amount is None else catalog(tenant, unit_amount)
    return CatalogEdition(version, content_sha256(content))


async def test_warming_up_fills_the_cache_and_hot_keys_shows_it(
    ana: Operator, tenant: TenantId, cache: RedisCatalogCache
) -> None:
    assert await cache.offerings(tenant, edition(tenant, 1), [FIBER]) == {}

    warmed = await ana.run("redis", "warm-up", "--tenant", tenant)
    assert warmed.changes == [f"{tenant}: 1 offerings of version 1"]
    for _ in range(50):
        assert await cache.offerings(tenant, edition(tenant, 1), [FIBER]) == {FIBER: fiber()}

    shown = await ana.run("redis", "hot-keys", "--most", "1000")
    (hot,) = [each for each in shown.data["hot"] if tenant in each["key"] and each["kind"] == "catalog_offering"]
    assert hot["use"] > 5
    assert shown.data["counts"][f"catalog_offering {tenant}"] == {"keys": 1, "limit": 10_000}


async def test_a_published_version_is_sold_at_once_and_the_old_one_is_retired(
    ana: Operator, tenant: TenantId, open_pool: OpenPool, cache: RedisCatalogCache, admin_connection: Connection
) -> None:
    open_unit_of_work = unit_of_work_factory(await open_pool("api"))

    async def sold() -> int | None:
        async with open_unit_of_work(tenant) as uow:
            return await uow.catalog.active_version()

    assert (await ana.run("catalog", "draft", "2", *WHY, document=catalog(tenant, "29.95"))).changed
    assert await sold() == 1
    assert (await ana.run("catalog", "publish", "2", "--tenant", tenant, *WHY)).data == {"retired": 1, "warmed": 1}
    assert await sold() == 2
    assert await cache.offerings(tenant, edition(tenant, 2, "29.95"), [FIBER]) == {FIBER: fiber(recurring="29.95")}

    again = await ana.run("catalog", "publish", "2", "--tenant", tenant, *WHY)
    assert again.problems == (f"{tenant}: catalog version 2 is active, not a draft",)
    assert (
        "the next catalog version is 3"
        in (await ana.run("catalog", "draft", "5", *WHY, document=catalog(tenant, "1"))).problems[0]
    )
    wrong = catalog(tenant, "-1") | {"offering": []}
    assert len((await ana.run("catalog", "draft", "3", *WHY, document=wrong)).problems) == 2
    rows = await admin_connection.execute(
        "SELECT action, before_state, after_state FROM cpq.audit_entry WHERE tenant_id = %s ORDER BY occurred_at",
        [tenant],
    )
    entries = await rows.fetchall()
    assert [entry["action"] for entry in entries] == ["catalog.draft", "catalog.publish"]
    assert entries[1]["before_state"] == {"active_version": 1}
    assert entries[1]["after_state"]["active_version"] == 2


async def test_an_approval_policy_is_published_in_versions_and_never_changes(
    ana: Operator, tenant: TenantId, admin_connection: Connection
) -> None:
    policy = {"rules": [{"when": {"discountPercentAbove": "20"}, "approvers": ["sales-director"]}]}
    words = ("approval-policy", "publish", "--tenant", tenant, *WHY)

    assert (await ana.run(*words, document=policy)).data == {"policy_version": 1}
    assert "version 1 is this very policy" in (await ana.run(*words, document=policy)).problems[0]
    assert (await ana.run(*words, document={"rules": []})).data == {"policy_version": 2}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await admin_connection.execute(
            "UPDATE cpq.approval_policy_version SET content = '{}' WHERE tenant_id = %s", [tenant]
        )


async def test_the_api_hears_of_a_publication_and_answers_from_it_at_once(
    tenant: TenantId, start_api: StartApi, issuer: Issuer, cache: RedisCatalogCache, admin_connection: Connection
) -> None:
    api = start_api(API_WORKERS="1")
    assert api.wait_for("READY=1"), api.log.read_text()
    headers = {"Authorization": f"Bearer {issuer.token(tenant)}"}
    body = {"customerId": "c-1", "currency": "EUR", "items": [{"offeringId": FIBER, "quantity": 1}]}

    async def quoted_version() -> int:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        async with httpx.AsyncClient(base_url=api.http, headers=headers | key, timeout=20) as client:
            answer = await client.post("/v1/quotes", json=body)
        return int(answer.raise_for_status().json()["catalogVersion"])

    assert await quoted_version() == 1
    assert await cache.offerings(tenant, edition(tenant, 1), [FIBER])
    publications = Publications(admin_connection, UuidV7Ids())
    async with admin_connection.transaction():
        await publications.draft(catalog(tenant, "29.95"), 2, RepairReason("tests", WHY[1]))
        await publications.publish(tenant, 2, RepairReason("tests", WHY[1]))

    async def is_refreshed() -> bool:
        new = await cache.offerings(tenant, edition(tenant, 2, "29.95"), [FIBER])
        old = await cache.offerings(tenant, edition(tenant, 1), [FIBER])
        return new == {FIBER: fiber(recurring="29.95")} and not old

    await eventually(is_refreshed, "the new version is cached and the old one forgotten")
    assert await quoted_version() == 2
