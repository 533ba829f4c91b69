"""How many requests a client may make: the arithmetic, without a store.

A client's whole past is one instant: when it would have used up what it was given if it had asked evenly (the generic cell
rate algorithm). Each request moves the instant on; one that would be further ahead than the burst allows is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from app.contracts.loader import RequestLimit
from app.domain.values import TenantId
from app.runtime.clock import Clock

_MOST_CLIENTS = 10_000


@dataclass(frozen=True, slots=True)
class RateVerdict:
    """Whether a request may go on.

    Attributes:
        remaining: how many more may follow at once.
        retry_after: how long until one is allowed again; zero while it is.
    """

    is_allowed: bool
    remaining: int
    retry_after: timedelta


class RateLimiter(Protocol):
    """Counts requests of clients, each of a tenant, in classes."""

    async def take(self, tenant_id: TenantId, client: str, window: str) -> RateVerdict:
        """Count one request of a class. Never raises for a store that is away: the declared rule then decides."""
        ...


class LocalRateLimiter:
    """Counts in this process alone, within a share of each limit.

    Args:
        limits: the declared limits by class.
        processes: how many processes share a limit.
        clock: monotonic time.
    """

    def __init__(self, limits: Mapping[str, RequestLimit], processes: int, clock: Clock) -> None:
        self._limits = limits
        self._processes = processes
        self._clock = clock
        self._instants: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def take(self, tenant_id: TenantId, client: str, window: str) -> RateVerdict:
        limit = self._limits[window]
        interval = limit.interval * self._processes
        ahead = max(1, limit.burst // self._processes) * interval
        now, who = self._clock.monotonic(), (tenant_id, client, window)
        instant = max(self._instants.pop(who, now), now)
        is_allowed = instant + interval - now <= ahead
        if is_allowed:
            instant += interval
        self._instants[who] = instant
        if len(self._instants) > _MOST_CLIENTS:
            self._instants.popitem(last=False)  # whoever was not seen longest has most likely nothing to wait for
        remaining = max(0, int((now + ahead - instant) / interval))
        wait = 0.0 if is_allowed else instant + interval - now - ahead
        return RateVerdict(is_allowed, remaining, timedelta(seconds=wait))
