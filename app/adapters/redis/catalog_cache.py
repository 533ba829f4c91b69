"""Published offerings in Redis. Redis may be flushed, slow, full of nonsense or gone: the database then answers instead."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.adapters.redis.guard import RedisAway, RedisGuard
from app.adapters.redis.keys import Keys
from app.domain.catalog import CatalogEdition, ProductOffering
from app.domain.values import OfferingId, TenantId

_KIND = "catalog_offering"
_BATCH = 100

# KEYS: the index, then the keys. ARGV: most keys, time to live, the index's time to live, then the values; times in
# milliseconds. Returns how many were written: a key beyond the limit is not.
_PUT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local alive = redis.call('ZCARD', KEYS[1])
local written = 0
for place = 2, #KEYS do
    local known = redis.call('ZSCORE', KEYS[1], KEYS[place])
    if known or alive < tonumber(ARGV[1]) then
        if not known then alive = alive + 1 end
        redis.call('SET', KEYS[place], ARGV[place + 2], 'PX', ARGV[2])
        redis.call('ZADD', KEYS[1], now + ARGV[2], KEYS[place])
        written = written + 1
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return written
"""


# KEYS: the index. ARGV: how the keys begin that stay. Returns how many others there were.
_FORGET_OTHERS = """
local forgotten = 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if string.sub(key, 1, #ARGV[1]) ~= ARGV[1] then
        redis.call('DEL', key)
        redis.call('ZREM', KEYS[1], key)
        forgotten = forgotten + 1
    end
end
return forgotten
"""


class _Entry(msgspec.Struct):
    """What is stored: its form's version, the key's own parts, and which content the version had.

    A value under a wrong key, of another environment, or of a version that was published again is not believed.
    """

    value_version: int
    environment: str
    tenant_id: str
    catalog_version: int
    content_sha256: str
    offering: ProductOffering


class RedisCatalogCache:
    """See `app.application.ports.CatalogCache`."""

    def __init__(self, guard: RedisGuard, keys: Keys) -> None:
        self._guard = guard
        self._keys = keys
        self._declared = keys.declaration(_KIND)
        self._decoder = msgspec.json.Decoder(_Entry)

    async def offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offering_ids: Sequence[OfferingId]
    ) -> dict[OfferingId, ProductOffering]:
        if not offering_ids:
            return {}
        keys = [self._key(tenant_id, edition.catalog_version, offering_id) for offering_id in offering_ids]
        try:
            values = await self._guard.ask(lambda redis: redis.mget(keys))
        except RedisAway:
            return {}
        found = {}
        for offering_id, value in zip(offering_ids, values, strict=True):
            offering = self._decode(value, tenant_id, edition, offering_id)
            if offering is not None:
                found[offering_id] = offering
        return found

    async def put_offerings(
        self, tenant_id: TenantId, edition: CatalogEdition, offerings: Sequence[ProductOffering]
    ) -> int:
        written = 0
        # In batches, so that a large catalog does not take longer than Redis is waited for.
        for start in range(0, len(offerings), _BATCH):
            try:
                written += await self._put(tenant_id, edition, offerings[start : start + _BATCH])
            except RedisAway:
                break
        return written

    async def _put(self, tenant_id: TenantId, edition: CatalogEdition, offerings: Sequence[ProductOffering]) -> int:
        index = self._keys.index(_KIND, tenant_id)
        keys = [self._key(tenant_id, edition.catalog_version, offering.offering_id) for offering in offerings]
        identity = self._identity(tenant_id, edition)
        values = [msgspec.json.encode(_Entry(*identity, offering)) for offering in offerings]
        limits = [self._declared.max_keys_per_tenant, self._declared.ttl_ms, self._keys.declaration("key_index").ttl_ms]
        return int(await self._guard.ask(lambda redis: redis.eval(_PUT, 1 + len(keys), index, *keys, *limits, *values)))

    async def forget_others(self, tenant_id: TenantId, catalog_version: int) -> int:
        index = self._keys.index(_KIND, tenant_id)
        # All keys of one version begin alike, up to the offering's own name.
        anything = OfferingId("x")
        beginning = self._key(tenant_id, catalog_version, anything).removesuffix(anything)
        try:
            return int(await self._guard.ask(lambda redis: redis.eval(_FORGET_OTHERS, 1, index, beginning)))
        except RedisAway:
            return 0

    def _key(self, tenant_id: TenantId, catalog_version: int, offering_id: OfferingId) -> str:
        return self._keys.key(_KIND, tenant_id, catalog_version=catalog_version, offering_id=offering_id)

    def _decode(
        self, value: bytes | str | None, tenant_id: TenantId, edition: CatalogEdition, offering_id: OfferingId
    ) -> ProductOffering | None:
        if value is None:
            return None
        try:
            entry = self._decoder.decode(value)
        except msgspec.MsgspecError:
            return None
        found = (
            entry.value_version,
            entry.environment,
            entry.tenant_id,
            entry.catalog_version,
            entry.content_sha256,
        )
        is_it = found == self._identity(tenant_id, edition) and entry.offering.offering_id == offering_id
        return entry.offering if is_it else None

    def _identity(self, tenant_id: TenantId, edition: CatalogEdition) -> tuple[int, str, str, int, str]:
        """What every value of an edition says of itself."""
        version, environment = self._declared.value_version, self._keys.environment
        return (version, environment, tenant_id, edition.catalog_version, edition.content_sha256)
