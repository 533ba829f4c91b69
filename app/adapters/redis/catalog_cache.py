"""Published offerings in Redis. Redis may be flushed, slow, full of nonsense or gone: the database then answers instead."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.adapters.redis.keys import Keys
from app.domain.catalog import ProductOffering
from app.domain.values import OfferingId, TenantId
from app.runtime.clock import Clock
from app.runtime.logging import get_logger

TIMEOUT_S = 0.1
"""A cache that takes longer than this is slower than the database it stands in front of."""

PAUSE_S = 5.0
"""After a failure Redis is left alone this long, so that a hanging one delays one request in a while, not each."""

_log = get_logger(__name__)


class _Entry(msgspec.Struct):
    """What is stored: the key's own parts too, so that a value under a wrong key is not believed."""

    tenant_id: str
    catalog_version: int
    offering: ProductOffering


def connect(url: str, password: str) -> Redis:
    """Return a client that opens connections when they are needed; `url` is redis://user@host:port/database."""
    parts = urlsplit(url)
    return Redis(
        host=parts.hostname or "localhost",
        port=parts.port or 6379,
        db=int(parts.path.lstrip("/") or 0),
        username=parts.username,
        password=password,
        ssl=parts.scheme == "rediss",
        protocol=2,  # RESP3 opens with HELLO, which the ACL user may not send
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # the database is the second try
    )


class RedisCatalogCache:
    """See `app.application.ports.CatalogCache`."""

    def __init__(self, client: Redis, keys: Keys, clock: Clock) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._decoder = msgspec.json.Decoder(_Entry)
        self._resume_at = 0.0

    async def offerings(
        self, tenant_id: TenantId, catalog_version: int, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        if not offering_ids or self._clock.monotonic() < self._resume_at:
            return {}
        keys = [self._keys.offering(tenant_id, catalog_version, offering_id) for offering_id in offering_ids]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                values = await self._client.mget(keys)
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)
            return {}
        found = {}
        for offering_id, value in zip(offering_ids, values, strict=True):
            offering = self._decode(value, tenant_id, catalog_version, offering_id)
            if offering is not None:
                found[offering_id] = offering
        return found

    async def put_offerings(
        self, tenant_id: TenantId, catalog_version: int, offerings: Sequence[ProductOffering]
    ) -> None:
        if self._clock.monotonic() < self._resume_at:
            return
        try:
            async with asyncio.timeout(TIMEOUT_S), self._client.pipeline(transaction=False) as pipeline:
                for offering in offerings:
                    key = self._keys.offering(tenant_id, catalog_version, offering.offering_id)
                    entry = _Entry(tenant_id, catalog_version, offering)
                    pipeline.set(key, msgspec.json.encode(entry), px=self._keys.offering_ttl_ms)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)

    def _decode(
        self, value: bytes | str | None, tenant_id: TenantId, catalog_version: int, offering_id: OfferingId
    ) -> ProductOffering | None:
        if value is None:
            return None
        try:
            entry = self._decoder.decode(value)
        except msgspec.MsgspecError:
            return None
        owner = (entry.tenant_id, entry.catalog_version, entry.offering.offering_id)
        return entry.offering if owner == (tenant_id, catalog_version, offering_id) else None

    def _pause(self, error: Exception) -> None:
        self._resume_at = self._clock.monotonic() + PAUSE_S
        _log.warning("catalog cache unavailable, reading from the database", error=type(error).__name__)
