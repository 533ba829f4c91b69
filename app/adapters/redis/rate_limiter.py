"""Rate limits over all processes, counted in Redis; without it each class of requests goes on as declared.

A process asks for some requests at once and deals them out by itself: most requests cost no round trip, and all processes
together still let through no more than the limit. What is not dealt out within a second is lost to the client.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.adapters.redis.guard import RedisAway, RedisGuard
from app.adapters.redis.keys import Keys
from app.application.rate_limiting import LocalRateLimiter, RateVerdict
from app.contracts.loader import RequestLimit
from app.domain.values import TenantId
from app.runtime.clock import Clock

_KIND = "rate_limit"
_SHARES = 50
_KEEP_S = 1.0
_MOST_CLIENTS = 10_000
_MILLION = 1_000_000
_SHARED = "shared"

# KEYS: the index, the client's key, the key that clients beyond the limit of keys share. ARGV: most keys, the index's time to
# live in ms, microseconds between two requests, how far ahead a client may be in microseconds, requests wanted.
# Returns requests given (all wanted, else one, else none), microseconds until one would be given, microseconds ahead.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local key = KEYS[2]
if redis.call('EXISTS', key) == 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
    if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then key = KEYS[3] end
end
local interval, ahead, wanted = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local instant = math.max(tonumber(redis.call('GET', key) or now) or now, now)
-- Nothing we write is further ahead: what is, is not ours, and would hold the client off until it ends.
if not (instant <= now + ahead) then instant = now end
local given = wanted
if instant + interval * given - now > ahead then given = 1 end
if instant + interval * given - now > ahead then given = 0 end
if given > 0 then
    instant = instant + interval * given
    redis.call('SET', key, string.format('%.0f', instant), 'PX', math.max(1, math.ceil((instant - now) / 1000)))
    redis.call('ZADD', KEYS[1], instant, key)
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {given, math.max(0, instant + interval - now - ahead), instant - now}
"""


@dataclass(slots=True)
class _Hand:
    """Requests that were given to a client of this process and not made yet."""

    left: int
    until: float
    remaining: int


class RedisRateLimiter:
    """See `app.application.rate_limiting.RateLimiter`.

    Args:
        guard: the way to Redis.
        keys: the declared keys.
        limits: the declared limits by class.
        local: decides for the classes that stay closed without Redis.
        clock: monotonic time.
    """

    def __init__(
        self, guard: RedisGuard, keys: Keys, limits: Mapping[str, RequestLimit], local: LocalRateLimiter, clock: Clock
    ) -> None:
        self._guard = guard
        self._keys = keys
        self._limits = limits
        self._local = local
        self._clock = clock
        self._hands: OrderedDict[tuple[str, str, str], _Hand] = OrderedDict()

    async def take(self, tenant_id: TenantId, client: str, window: str) -> RateVerdict:
        who, now = (tenant_id, client, window), self._clock.monotonic()
        hand = self._hands.get(who)
        if hand is not None and hand.left and now < hand.until:
            hand.left -= 1
            return RateVerdict(is_allowed=True, remaining=hand.remaining + hand.left, retry_after=timedelta())
        limit = self._limits[window]
        try:
            given, wait, ahead = await self._ask(tenant_id, client, window, limit)
        except RedisAway:
            if limit.without_redis == "open":
                return RateVerdict(is_allowed=True, remaining=limit.burst, retry_after=timedelta())
            return await self._local.take(tenant_id, client, window)
        remaining = max(0, limit.burst - round(ahead / (limit.interval * _MILLION)))
        if not given:
            return RateVerdict(is_allowed=False, remaining=0, retry_after=timedelta(microseconds=wait))
        self._hands[who] = _Hand(given - 1, now + _KEEP_S, remaining)
        self._hands.move_to_end(who)
        if len(self._hands) > _MOST_CLIENTS:
            self._hands.popitem(last=False)
        return RateVerdict(is_allowed=True, remaining=remaining + given - 1, retry_after=timedelta())

    async def _ask(self, tenant_id: TenantId, client: str, window: str, limit: RequestLimit) -> tuple[int, int, int]:
        # A client's name may have any characters; its hash has only those of a key.
        name = hashlib.sha256(client.encode()).hexdigest()[:32]
        keys = [
            self._keys.index(_KIND, tenant_id),
            self._keys.key(_KIND, tenant_id, client=name, window=window),
            self._keys.key(_KIND, tenant_id, client=_SHARED, window=window),
        ]
        interval = limit.interval * _MILLION
        arguments = [
            self._keys.declaration(_KIND).max_keys_per_tenant,
            self._keys.declaration("key_index").ttl_ms,
            interval,
            interval * limit.burst,
            max(1, limit.burst // _SHARES),
        ]
        given, wait, ahead = await self._guard.ask(lambda redis: redis.eval(_TAKE, len(keys), *keys, *arguments))
        return int(given), int(wait), int(ahead)
