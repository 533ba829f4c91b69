"""Reads offerings of a published catalog version: from the cache where it has them, else from the database.

Only what can never change is cached, under a key that names the version, so an answer never depends on the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.application.ports import CatalogCache, UnitOfWork
from app.domain.catalog import ProductOffering
from app.domain.errors import OfferingNotFound
from app.domain.values import OfferingId


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
        found = await self._cache.offerings(uow.tenant_id, catalog_version, wanted)
        missing = [offering_id for offering_id in wanted if offering_id not in found]
        if missing:
            stored = await uow.catalog.offerings(catalog_version, missing)
            for offering_id in missing:
                if offering_id not in stored:
                    raise OfferingNotFound(f"Catalog version {catalog_version} has no offering {offering_id}.")
            await self._cache.put_offerings(uow.tenant_id, catalog_version, list(stored.values()))
            found |= stored
        return found
