"""A catalog cache in memory; `is_down` makes it behave like one whose server is gone."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.catalog import CatalogEdition, ProductOffering
from app.domain.values import OfferingId, TenantId


class MemoryCatalogCache:
    """See `app.application.ports.CatalogCache`."""

    def __init__(self) -> None:
        self.entries: dict[tuple[TenantId, CatalogEdition, OfferingId], ProductOffering] = {}
        self.is_down = False

    async def offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        if self.is_down:
            return {}
        keys = ((tenant_id, edition, offering_id) for offering_id in offering_ids)
        return {key[2]: self.entries[key] for key in keys if key in self.entries}

    async def put_offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offerings: Sequence[ProductOffering]
    ) -> int:
        if self.is_down:
            return 0
        self.entries |= {(tenant_id, edition, each.offering_id): each for each in offerings}
        return len(offerings)

    async def forget_others(self, tenant_id: TenantId, catalog_version: int) -> int:
        if self.is_down:
            return 0
        others = [key for key in self.entries if key[0] == tenant_id and key[1].catalog_version != catalog_version]
        for key in others:
            del self.entries[key]
        return len(others)
