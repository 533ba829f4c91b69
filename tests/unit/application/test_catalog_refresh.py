"""A publication brings the new version into the cache; nothing depends on it."""

from __future__ import annotations

from app.adapters.memory.catalog_cache import MemoryCatalogCache
from app.adapters.memory.unit_of_work import MemoryStore
from app.application.offerings import CatalogRefresh, OfferingReader
from app.domain.catalog import CatalogEdition
from app.domain.values import TenantId
from tests.support.builders import FIBER, SetClock, fiber

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
OLD = CatalogEdition(1, "0" * 64)


def refreshed(cache: MemoryCatalogCache) -> CatalogRefresh:
    """A refresh over a store in which acme sells version 2."""
    store = MemoryStore(SetClock())
    store.publish(ACME, 2, [fiber()])
    return CatalogRefresh(store.unit_of_work, cache)


async def test_the_new_version_comes_and_the_tenants_others_go() -> None:
    cache = MemoryCatalogCache()
    await cache.put_offerings(ACME, OLD, [fiber()])
    await cache.put_offerings(GLOBEX, OLD, [fiber()])

    await refreshed(cache).published(ACME)

    assert {(tenant, edition.catalog_version, name) for tenant, edition, name in cache.entries} == {
        (ACME, 2, FIBER),
        (GLOBEX, 1, FIBER),
    }


async def test_a_tenant_without_a_catalog_and_a_cache_that_is_down_are_no_matter() -> None:
    cache = MemoryCatalogCache()
    await refreshed(cache).published(GLOBEX)
    assert not cache.entries

    cache.is_down = True
    await refreshed(cache).published(ACME)


async def test_a_number_published_again_after_a_restore_is_answered_from_the_database() -> None:
    cache, store = MemoryCatalogCache(), MemoryStore(SetClock())
    store.publish(ACME, 5, [fiber(recurring="1.000000")])
    async with store.unit_of_work(ACME) as uow:
        assert await OfferingReader(cache).read(uow, 5, [FIBER]) == {FIBER: fiber(recurring="1.000000")}

    store.publish(ACME, 5, [fiber()])  # what was published between the backup and the restore is gone

    async with store.unit_of_work(ACME) as uow:
        assert await OfferingReader(cache).read(uow, 5, [FIBER]) == {FIBER: fiber()}
