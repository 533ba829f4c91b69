"""Publications of catalog versions and approval policies: versioned, whole, audited, and never changed afterwards.

Each function works in the caller's transaction and leaves an audit entry of the tenant in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from app.adapters.postgres.catalog_seed import CatalogRefusedError, insert_draft
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.repairs import PostgresRepairStore
from app.application.operations import OperationError
from app.application.repair import Repaired, RepairReason
from app.runtime.ids import Ids

_SQL = NamedBlocks("catalog_publication")


class PolicyRefusedError(OperationError):
    """There is no such tenant, or the policy is the one in force already."""


async def active_versions(connection: Connection, tenant_id: str | None) -> dict[str, int]:
    """The active catalog version of every tenant, or of one."""
    cursor = await connection.execute(_SQL["active_versions"], {"tenant_id": tenant_id})
    return {row["tenant_id"]: row["catalog_version"] for row in await cursor.fetchall()}


class Publications:
    """Publishes on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection, ids: Ids) -> None:
        self._connection = connection
        self._audit = PostgresRepairStore(connection, ids)

    async def draft(self, tenant: Mapping[str, Any], catalog_version: int, reason: RepairReason) -> str:
        """Store a catalog version as a draft and answer the hash of its content.

        Args:
            tenant: `tenant_id` and `offerings`, each as in the demo catalog.
            catalog_version: its number; the next one after the tenant's newest.
            reason: who and why.

        Raises:
            CatalogRefusedError: no such tenant, or not the next number.
        """
        tenant_id = str(tenant["tenant_id"])
        await self._ensure_tenant(tenant_id)
        newest = max((row["catalog_version"] for row in await self._versions(tenant_id)), default=0)
        if catalog_version != newest + 1:
            raise CatalogRefusedError(f"{tenant_id}: the next catalog version is {newest + 1}, not {catalog_version}")
        sha = await insert_draft(self._connection, tenant, catalog_version)
        after = {"lifecycle_status": "draft", "content_sha256": sha}
        repaired = Repaired(tenant_id, "catalog_version", str(catalog_version), {}, after)
        await self._audit.audit("catalog.draft", repaired, reason)
        return sha

    async def publish(self, tenant_id: str, catalog_version: int, reason: RepairReason) -> int | None:
        """Make a draft the version that new quotes are made from; answer the one that was, now retired.

        Quotes keep the version they were made from. No reader sees a moment without an active version.

        Raises:
            CatalogRefusedError: there is no such draft.
        """
        versions = {row["catalog_version"]: row for row in await self._versions(tenant_id)}
        if catalog_version not in versions:
            raise CatalogRefusedError(f"{tenant_id} has no catalog version {catalog_version}")
        status = versions[catalog_version]["lifecycle_status"]
        if status != "draft":
            raise CatalogRefusedError(f"{tenant_id}: catalog version {catalog_version} is {status}, not a draft")
        before = next((each for each, row in versions.items() if row["lifecycle_status"] == "active"), None)
        values = {"tenant_id": tenant_id, "catalog_version": catalog_version, "operator": reason.operator}
        await self._connection.execute(_SQL["retire"], values)
        await self._connection.execute(_SQL["activate"], values)
        await self._connection.execute(_SQL["notify"], values)
        after = {"active_version": catalog_version, "content_sha256": versions[catalog_version]["content_sha256"]}
        was = {"active_version": before}
        published = Repaired(tenant_id, "catalog_version", str(catalog_version), was, after)
        await self._audit.audit("catalog.publish", published, reason)
        return before

    async def publish_policy(self, tenant_id: str, content: Mapping[str, Any], reason: RepairReason) -> int:
        """Publish an approval policy as the tenant's next version; answer its number.

        Raises:
            PolicyRefusedError: no such tenant, or nothing would change.
        """
        await self._connection.execute(_SQL["lock_policy"], {"tenant_id": tenant_id})
        if not await self._has_tenant(tenant_id):
            raise PolicyRefusedError(f"there is no tenant {tenant_id}")
        sha = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        row = await (await self._connection.execute(_SQL["policy_versions"], {"tenant_id": tenant_id})).fetchone()
        if row is not None and row["content_sha256"] == sha:
            raise PolicyRefusedError(f"{tenant_id}: version {row['policy_version']} is this very policy")
        version = 1 if row is None else int(row["policy_version"]) + 1
        values = {"tenant_id": tenant_id, "policy_version": version, "content": Jsonb(content), "content_sha256": sha}
        await self._connection.execute(
            _SQL["insert_policy"], values | {"reason": reason.text, "operator": reason.operator}
        )
        was = {} if row is None else {"policy_version": row["policy_version"]}
        after = {"policy_version": version, "content_sha256": sha}
        published = Repaired(tenant_id, "approval_policy_version", str(version), was, after)
        await self._audit.audit("approval-policy.publish", published, reason)
        return version

    async def _ensure_tenant(self, tenant_id: str) -> None:
        if not await self._has_tenant(tenant_id):
            raise CatalogRefusedError(f"there is no tenant {tenant_id}")

    async def _has_tenant(self, tenant_id: str) -> bool:
        row = await (await self._connection.execute(_SQL["has_tenant"], {"tenant_id": tenant_id})).fetchone()
        return bool(row and row["there"])

    async def _versions(self, tenant_id: str) -> list[dict[str, Any]]:
        return await (await self._connection.execute(_SQL["versions"], {"tenant_id": tenant_id})).fetchall()
