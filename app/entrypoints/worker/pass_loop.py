"""The life of a worker that looks for work by itself: pass after pass, and a rest while nothing is due.

One whose colour does not work makes no pass and asks again every few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from app.messaging.colours import Standing
from app.messaging.retry import Backoff
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown

log = get_logger(__name__)

# A pass has time limits of its own for everything it asks.
_LONGEST_PASS = 30.0


class WorkPass(Protocol):
    """What one pass came to."""

    @property
    def is_more_due(self) -> bool:
        """Whether there may be more that is due now."""
        ...

    @property
    def problem(self) -> str | None:
        """What to wait for before the next pass, or None."""
        ...


PassT = TypeVar("PassT", bound=WorkPass)


class PassLoop(Generic[PassT]):
    """Makes passes until asked to stop.

    Args:
        run_pass: makes one.
        doing: what STATUS says while nothing is in the way.
        wake: set when there is work, so that a rest ends at once; None where nobody tells.
        observe: told of every pass.
        standing: whether this worker may work.
        poll_interval: longest time between two passes.
        shutdown: the request to stop.
        notifier: the service manager.
        clock: monotonic time.
    """

    def __init__(
        self,
        run_pass: Callable[[], Awaitable[PassT]],
        *,
        doing: str,
        wake: asyncio.Event | None = None,
        observe: Callable[[PassT], None] | None = None,
        standing: Standing,
        poll_interval: timedelta,
        shutdown: Shutdown,
        notifier: Notifier,
        clock: Clock,
    ) -> None:
        self._run_pass = run_pass
        self._doing = doing
        self._wake = wake or asyncio.Event()
        self._observe = observe
        self._standing = standing
        self._poll_interval = poll_interval.total_seconds()
        self._shutdown = shutdown
        self._notifier = notifier
        self._clock = clock
        self._backoff = Backoff(initial=0.5, maximum=5.0)
        self._failures = 0
        self._passed_at = clock.monotonic()
        self._status = ""

    def is_making_progress(self) -> bool:
        """Whether passes are made: each comes at most a poll interval after the one before."""
        return self._clock.monotonic() - self._passed_at < self._poll_interval + _LONGEST_PASS

    async def run(self) -> None:
        """Pass after pass until a stop is requested; a pass is never cut, so nothing is left half done."""
        while not self._shutdown.requested:
            self._wake.clear()
            if not await self._standing.may_work():
                self._passed_at = self._clock.monotonic()
                self._say(self._standing.status)
                await self._rest(self._standing.look_in, is_wakeable=False)
                continue
            result = await self._run_pass()
            self._passed_at = self._clock.monotonic()
            self._notifier.watchdog()
            if self._observe is not None:
                self._observe(result)
            self._say(f"waiting: {result.problem}" if result.problem else self._doing)
            if result.problem:
                self._failures += 1
                # What was refused may have been, because somebody else works now.
                self._standing.doubt()
                await self._rest(self._backoff.delay(self._failures), is_wakeable=False)
            else:
                self._failures = 0
                if not result.is_more_due:
                    await self._rest(min(self._poll_interval, self._standing.look_in), is_wakeable=True)
        self._notifier.stopping()

    def _say(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._notifier.status(status)
            log.info("status", status=status)

    async def _rest(self, seconds: float, *, is_wakeable: bool) -> None:
        """Wait, feeding the watchdog, until the time is over, a stop is requested, or somebody wakes."""
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            if self._shutdown.requested or (is_wakeable and self._wake.is_set()):
                return
            await self._first_of(min(left, self._notifier.feed_interval or left), is_wakeable=is_wakeable)
            self._notifier.watchdog()

    async def _first_of(self, seconds: float, *, is_wakeable: bool) -> None:
        waiting: set[asyncio.Task[object]] = {asyncio.create_task(self._shutdown.wait())}
        if is_wakeable:
            waiting.add(asyncio.create_task(self._wake.wait()))
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
