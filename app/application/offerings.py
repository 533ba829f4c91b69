"""Reads offerings of a published catalog version: from the cache where it has them, else from the database.

Only what can never change is cached, with the hash of the version's content, which the database is asked for in the same
transaction, so an answer never depends on the cache: not even when a restored database publishes a number a second time.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.application.ports import CatalogCache, StoreUnavailable, UnitOfWork, UnitOfWorkFactory
from app.domain.catalog import ProductOffering
from app.domain.errors import OfferingNotFound
from app.domain.values import OfferingId, TenantId
from app.runtime.logging import get_logger

_log = get_logger(__name__)


class OfferingReader:
    """Offerings by catalog version and identifier."""

    def __init__(self, cache: CatalogCache) -> None:
        self._cache = cache

    async def read(
        self, uow: UnitOfWork, catalog_version: int, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        """Return every named offering.

        Raises:
            OfferingNotFound: the version does not have one of them.
        """
        wanted = sorted(set(offering_ids))
        edition = await uow.catalog.edition(catalog_version)
        if edition is None:
            raise OfferingNotFound(f"There is no catalog version {catalog_version}.")
        found = await self._cache.offerings(uow.tenant_id, edition, wanted)
        missing = [offering_id for offering_id in wanted if offering_id not in found]
        if missing:
            stored = await uow.catalog.offerings(catalog_version, missing)
            for offering_id in missing:
                if offering_id not in stored:
                    raise OfferingNotFound(f"Catalog version {catalog_version} has no offering {offering_id}.")
            await self._cache.put_offerings(uow.tenant_id, edition, list(stored.values()))
            found |= stored
        return found


class CatalogRefresh:
    """Brings the cache up to a publication: the new version is there before clients ask for it, others make room.

    It only saves time. Readers ask PostgreSQL for the version and the cache for that version's offerings, so a publication
    that nobody heard of is answered as truly, a little slower.
    """

    def __init__(self, open_unit_of_work: UnitOfWorkFactory, cache: CatalogCache) -> None:
        self._open_unit_of_work = open_unit_of_work
        self._cache = cache

    async def published(self, tenant_id: TenantId) -> None:
        """Cache what the tenant sells now. Never raises for a store that is away."""
        try:
            async with self._open_unit_of_work(tenant_id) as uow:
                version = await uow.catalog.active_version()
                edition = None if version is None else await uow.catalog.edition(version)
                offerings = [] if edition is None else await uow.catalog.sellable_offerings(edition.catalog_version)
        except StoreUnavailable as error:
            _log.warning("catalog not refreshed", tenant=tenant_id, error=str(error))
            return
        if edition is not None:
            version = edition.catalog_version
            forgotten = await self._cache.forget_others(tenant_id, version)
            cached = await self._cache.put_offerings(tenant_id, edition, offerings)
            _log.info("catalog refreshed", tenant=tenant_id, version=version, cached=cached, forgotten=forgotten)
