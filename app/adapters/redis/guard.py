"""The way to Redis for requests: a short wait, and after a failure none at all for a while. Nothing may depend on Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.runtime.clock import Clock
from app.runtime.logging import get_logger

TIMEOUT_S = 0.1
"""What takes longer than this is slower than the database it stands in front of."""

PAUSE_S = 5.0
"""After a failure Redis is left alone this long, so that a hanging one delays one request in a while, not each."""

_log = get_logger(__name__)

T = TypeVar("T")


class RedisAway(Exception):  # noqa: N818 (a condition that passes, not a defect)
    """Redis did not answer in time, refused, or is being left alone after it did."""


class RedisGuard:
    """Asks Redis for everything in a process, so that all of it learns at once when Redis is away.

    Args:
        client: from `connect`; opened and closed by its owner.
        clock: monotonic time.
    """

    def __init__(self, client: Redis, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._resume_at = 0.0

    async def ask(self, question: Callable[[Redis], Awaitable[T]]) -> T:
        """Return the answer.

        Raises:
            RedisAway: there is none.
        """
        if self._clock.monotonic() < self._resume_at:
            raise RedisAway
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await question(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            self._resume_at = self._clock.monotonic() + PAUSE_S
            _log.warning("redis unavailable, going on without it", error=type(error).__name__)
            raise RedisAway from error
