"""Publishes a declared catalog as version 1 of its tenants: whole or not at all, never over another content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.operations import OperationError

_SQL = NamedBlocks("catalog_seed")
_FIRST = 1


class CatalogRefusedError(OperationError):
    """A tenant has a published catalog of other content; the message names it. Published versions are immutable."""


def content_sha256(tenant: Mapping[str, Any]) -> str:
    """The hash of a tenant's offerings, whatever the layout of the file they came from."""
    return hashlib.sha256(json.dumps(tenant["offerings"], sort_keys=True).encode()).hexdigest()


async def unpublished(connection: Connection, tenants: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the tenants that have no active catalog version.

    Raises:
        CatalogRefusedError: a tenant has a version 1 of other content.
    """
    missing: list[Mapping[str, Any]] = []
    for tenant in tenants:
        cursor = await connection.execute(_SQL["active_version"], {"tenant_id": tenant["tenant_id"]})
        active = await cursor.fetchone()
        if active is None:
            missing.append(tenant)
        elif active["catalog_version"] == 1 and active["content_sha256"] != content_sha256(tenant):
            raise CatalogRefusedError(
                f"{tenant['tenant_id']} has another catalog version 1: a published version never changes, publish a new one"
            )
    return missing


async def seed(connection: Connection, tenants: Sequence[Mapping[str, Any]], published_by: str) -> list[str]:
    """Publish what is not there and return the tenants it was published for.

    Raises:
        CatalogRefusedError: as for `unpublished`; nothing was changed.
    """
    async with connection.transaction():
        missing = await unpublished(connection, tenants)
        for tenant in missing:
            await _publish(connection, tenant, content_sha256(tenant), published_by)
    return [tenant["tenant_id"] for tenant in missing]


async def _publish(connection: Connection, tenant: Mapping[str, Any], sha: str, published_by: str) -> None:
    identity = {"tenant_id": tenant["tenant_id"]}
    names = {"display_name": tenant["display_name"], "default_currency": tenant["default_currency"]}
    await connection.execute(_SQL["tenant"], identity | names)
    version = identity | {"catalog_version": _FIRST, "content_sha256": sha, "published_by": published_by}
    await connection.execute(_SQL["insert_version"], version)
    await _insert_offerings(connection, tenant, _FIRST)


async def insert_draft(connection: Connection, tenant: Mapping[str, Any], catalog_version: int) -> str:
    """Store a version that nobody sells from yet, in the caller's transaction; answer the hash of its content."""
    sha = content_sha256(tenant)
    version = {"tenant_id": tenant["tenant_id"], "catalog_version": catalog_version, "content_sha256": sha}
    await connection.execute(_SQL["insert_draft"], version)
    await _insert_offerings(connection, tenant, catalog_version)
    return sha


async def _insert_offerings(connection: Connection, tenant: Mapping[str, Any], catalog_version: int) -> None:
    identity = {"tenant_id": tenant["tenant_id"], "catalog_version": catalog_version}
    for offering in tenant["offerings"]:
        place = identity | {"offering_id": offering["offering_id"]}
        attributes = {key: offering[key] for key in ("name", "product_line", "service_specification")}
        await connection.execute(
            _SQL["insert_offering"], place | attributes | {"is_sellable": offering.get("is_sellable", True)}
        )
        for price in offering["prices"]:
            await connection.execute(_SQL["insert_price"], {"recurring_period": None} | price | place)
        for tier in offering.get("tiers", ()):
            await connection.execute(_SQL["insert_tier"], dict(tier) | place)
