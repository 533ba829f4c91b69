"""What the database itself is: schema, indexes, roles, applied migrations and catalogs, as texts by item. Reads only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.adapters.postgres.catalog_seed import content_sha256
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection

_SQL = NamedBlocks("live_state")
_SHA_SHOWN = 12


class LiveDatabase:
    """One session that may read the system's catalogs and the platform's own tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def items(self, block: str) -> dict[str, str]:
        """States by item: `schema`, `indexes`, `roles` or `migrations`."""
        rows = await (await self._connection.execute(_SQL[block])).fetchall()
        return {row["item"]: row["state"] for row in rows}

    async def applied_migrations(self) -> dict[str, dict[str, str]]:
        """Content hash and release of every migration that was applied; none before the first."""
        if not await has_table(self._connection, "migration_ledger"):
            return {}
        rows = await (await self._connection.execute(_SQL["applied_migrations"])).fetchall()
        return {
            row["migration"]: {"content_sha256": row["content_sha256"], "release_id": row["release_id"]} for row in rows
        }

    async def catalogs(self) -> dict[str, str]:
        """Every catalog version with the hash of what was published, and every offering as it is now."""
        versions = await (await self._connection.execute(_SQL["catalog_versions"])).fetchall()
        offerings = await (await self._connection.execute(_SQL["catalog_offerings"])).fetchall()
        found = {
            _version(
                row["tenant_id"], row["catalog_version"]
            ): f"{row['lifecycle_status']} {row['content_sha256'][:_SHA_SHOWN]}"
            for row in versions
        }
        return found | {
            f"{_version(row['tenant_id'], row['catalog_version'])} {row['offering_id']}": row["state"]
            for row in offerings
        }


def declared_catalog(tenant: Mapping[str, Any], live: Mapping[str, str]) -> dict[str, str]:
    """What `catalogs` must say of a tenant's first version; whether it is still sold from is the tenant's own affair."""
    version = _version(tenant["tenant_id"], 1)
    status = live.get(version, "active").partition(" ")[0]
    wanted = {version: f"{status} {content_sha256(tenant)[:_SHA_SHOWN]}"}
    return wanted | {f"{version} {one['offering_id']}": _offering(one) for one in tenant["offerings"]}


def _version(tenant_id: str, number: int) -> str:
    return f"{tenant_id} version {number}"


def _offering(offering: Mapping[str, Any]) -> str:
    prices: Sequence[Mapping[str, Any]] = offering["prices"]
    tiers: Sequence[Mapping[str, Any]] = offering.get("tiers", ())
    said = [
        ", ".join(
            " ".join(
                filter(
                    None, (one["price_type"], _number(one["unit_amount"]), one["currency"], one.get("recurring_period"))
                )
            )
            for one in sorted(prices, key=lambda one: (one["price_type"], one["currency"]))
        ),
        ", ".join(
            f"{one['price_type']} from {one['min_quantity']} -{_number(one['discount_percent'])}%"
            for one in sorted(tiers, key=lambda one: (one["price_type"], one["min_quantity"]))
        ),
    ]
    sellable = "sellable" if offering.get("is_sellable", True) else "not sellable"
    whole = [offering["name"], offering["product_line"], offering["service_specification"], sellable, *said]
    return "; ".join(filter(None, whole))


def _number(text: str) -> str:
    number = Decimal(text).normalize()
    return f"{number:f}"


def declared_schema(migrations: Path) -> Mapping[str, Mapping[str, str]]:
    """What `items` must say of `schema` and `indexes` once every expand migration is applied."""
    document: Mapping[str, Mapping[str, str]] = json.loads((migrations / "schema.json").read_text(encoding="utf-8"))
    return document
