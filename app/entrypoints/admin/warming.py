"""Fills the catalog cache from PostgreSQL, for commands."""

from __future__ import annotations

from app.adapters.postgres.catalog import PostgresCatalogRepository
from app.adapters.postgres.catalog_publication import active_versions
from app.adapters.postgres.pool import Connection
from app.adapters.redis.catalog_cache import RedisCatalogCache
from app.adapters.redis.connection import connect
from app.adapters.redis.guard import TIMEOUT_S, RedisGuard
from app.adapters.redis.keys import Keys
from app.contracts.loader import load_redis_keys
from app.domain.values import TenantId
from app.entrypoints.admin.wiring import Session
from app.runtime.clock import SystemClock


async def active_catalogs(connection: Connection, tenant: str | None) -> dict[TenantId, int]:
    """The active catalog version of every tenant, or of one."""
    return {TenantId(each): version for each, version in (await active_versions(connection, tenant)).items()}


async def warm(session: Session, connection: Connection, tenant: TenantId, version: int) -> int:
    """Cache the sellable offerings of a published version; answer how many Redis took, none where it is away."""
    settings = session.settings
    client = connect(settings.redis_url, settings.redis_password.get_secret_value(), settings.tls_ca_file, TIMEOUT_S)
    try:
        cache = RedisCatalogCache(RedisGuard(client, SystemClock()), Keys(load_redis_keys(), settings.app_env))
        catalog = PostgresCatalogRepository(connection, tenant)
        edition = await catalog.edition(version)
        if edition is None:
            return 0
        return await cache.put_offerings(tenant, edition, await catalog.sellable_offerings(version))
    finally:
        await client.aclose()
