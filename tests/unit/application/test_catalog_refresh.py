"""A publication brings the new version into the cache; nothing depends on it."""

from __future__ import annotations

from app.adapters.memory.catalog_cache import MemoryCatalogCache
from app.adapters.memory.unit_of_work import MemoryStore
from app.application.offerings import CatalogRefresh
from app.domain.values import TenantId
from tests.support.builders import FIBER, SetClock, fiber

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


def refreshed(cache: MemoryCatalogCache) -> CatalogRefresh:
    """A refresh over a store in which acme sells version 2."""
    store = MemoryStore(SetClock())
    store.publish(ACME, 2, [fiber()])
    return CatalogRefresh(store.unit_of_work, cache)


async def test_the_new_version_comes_and_the_tenants_others_go() -> None:
    cache = MemoryCatalogCache()
    await cache.put_offerings(ACME, 1, [fiber()])
    await cache.put_offerings(GLOBEX, 1, [fiber()])

    await refreshed(cache).published(ACME)

    assert set(cache.entries) == {(ACME, 2, FIBER), (GLOBEX, 1, FIBER)}


async def test_a_tenant_without_a_catalog_and_a_cache_that_is_down_are_no_matter() -> None:
    cache = MemoryCatalogCache()
    await refreshed(cache).published(GLOBEX)
    assert not cache.entries

    cache.is_down = True
    await refreshed(cache).published(ACME)
