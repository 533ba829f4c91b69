"""The published catalog in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.domain.catalog import (
    CatalogEdition,
    PriceAdjustmentTier,
    PriceType,
    ProductOffering,
    ProductOfferingPrice,
    RecurringPeriod,
)
from app.domain.values import OfferingId, TenantId

_SQL = NamedBlocks("catalog")


class PostgresCatalogRepository:
    """See `app.application.ports.CatalogRepository`."""

    def __init__(self, connection: Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def active_version(self) -> int | None:
        cursor = await self._connection.execute(_SQL["active_version"], {"tenant_id": self._tenant_id})
        row = await cursor.fetchone()
        return row["catalog_version"] if row else None

    async def edition(self, catalog_version: int) -> CatalogEdition | None:
        cursor = await self._connection.execute(
            _SQL["edition"], {"tenant_id": self._tenant_id, "catalog_version": catalog_version}
        )
        row = await cursor.fetchone()
        return CatalogEdition(row["catalog_version"], row["content_sha256"]) if row else None

    async def offerings(
        self, catalog_version: int, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        found = await self._read(catalog_version, list(offering_ids))
        return {offering.offering_id: offering for offering in found}

    async def sellable_offerings(self, catalog_version: int) -> list[ProductOffering]:
        return await self._read(catalog_version, None)

    async def _read(self, catalog_version: int, offering_ids: list[OfferingId] | None) -> list[ProductOffering]:
        cursor = await self._connection.execute(
            _SQL["offerings"],
            {"tenant_id": self._tenant_id, "catalog_version": catalog_version, "offering_ids": offering_ids},
        )
        return [_offering(row) for row in await cursor.fetchall()]


def _offering(row: dict[str, Any]) -> ProductOffering:
    prices = zip(row["price_types"], row["currencies"], row["unit_amounts"], row["recurring_periods"], strict=True)
    tiers = zip(row["tier_price_types"], row["min_quantities"], row["discount_percents"], row["reasons"], strict=True)
    return ProductOffering(
        offering_id=row["offering_id"],
        name=row["name"],
        product_line=row["product_line"],
        is_sellable=row["is_sellable"],
        service_specification=row["service_specification"],
        prices=tuple(
            ProductOfferingPrice(PriceType(kind), currency, amount, RecurringPeriod(period) if period else None)
            for kind, currency, amount, period in prices
        ),
        tiers=tuple(
            PriceAdjustmentTier(PriceType(kind), min_quantity, percent, reason)
            for kind, min_quantity, percent, reason in tiers
        ),
    )
