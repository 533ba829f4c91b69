"""Refuses a client that asks too often, and tells every client how much is left to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import falcon.asgi

from app.application.rate_limiting import RateLimiter
from app.contracts.loader import RequestLimit
from app.domain.values import Actor
from app.entrypoints.api.problems import Problem

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class RateLimiting:
    """Counts requests by tenant and client, in the classes of rate_limits.yml; what needs no token is not counted.

    The headers are those of draft-ietf-httpapi-ratelimit-headers: RateLimit-Policy with the quota `q` and its window `w` in
    seconds, RateLimit with what remains `r` and, once nothing does, the seconds `t` until more is there.
    """

    def __init__(self, limiter: RateLimiter, limits: Mapping[str, RequestLimit]) -> None:
        self._limiter = limiter
        self._policies = {
            name: f'"{name}";q={limit.requests};w={math.ceil(limit.per.total_seconds())}'
            for name, limit in limits.items()
        }

    async def process_resource(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Count the request, after the caller is known.

        Raises:
            Problem: 429 with Retry-After.
        """
        actor: Actor | None = getattr(req.context, "actor", None)
        if actor is None:
            return
        window = "read" if req.method in _READS else "command"
        verdict = await self._limiter.take(actor.tenant_id, actor.principal, window)
        seconds = math.ceil(verdict.retry_after.total_seconds())
        resp.set_header("RateLimit-Policy", self._policies[window])
        resp.set_header("RateLimit", f'"{window}";r={verdict.remaining}' + (f";t={seconds}" if seconds else ""))
        if not verdict.is_allowed:
            detail = "This client makes too many requests; Retry-After says when the next one is answered."
            raise Problem(429, "rate-limited", detail, headers={"Retry-After": str(max(1, seconds))})
