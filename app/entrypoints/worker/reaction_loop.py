"""The life of a worker that carries out reactions: passes over what is due, and rests while there is nothing."""

from __future__ import annotations

from datetime import timedelta

from app.application.reaction_runs import ReactionPass, ReactionRunner
from app.messaging.retry import Backoff
from app.runtime.clock import Clock
from app.runtime.logging import get_logger
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown

log = get_logger(__name__)

# A pass has time limits of its own for everything it asks.
_LONGEST_PASS = 30.0


class ReactionLoop:
    """Runs a reaction runner.

    Args:
        runner: the runner.
        poll_interval: the time between two looks while nothing is due.
        shutdown: the request to stop.
        notifier: the service manager.
        clock: monotonic time.
    """

    def __init__(
        self,
        runner: ReactionRunner,
        *,
        poll_interval: timedelta,
        shutdown: Shutdown,
        notifier: Notifier,
        clock: Clock,
    ) -> None:
        self._runner = runner
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
            result = await self._runner.run_pass()
            self._passed_at = self._clock.monotonic()
            self._notifier.watchdog()
            self._show(result)
            if result.problem:
                self._failures += 1
                await self._rest(self._backoff.delay(self._failures))
            else:
                self._failures = 0
                if not result.is_more_due:
                    await self._rest(self._poll_interval)
        self._notifier.stopping()

    def _show(self, result: ReactionPass) -> None:
        status = f"waiting: {result.problem}" if result.problem else "carrying out reactions"
        if status != self._status:
            self._status = status
            self._notifier.status(status)
            log.info("status", status=status)

    async def _rest(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            if await self._shutdown.sleep(min(left, self._notifier.feed_interval or left)):
                return
            self._notifier.watchdog()
