"""The life of a worker that serves job types: work until asked to stop, drain, and feed the watchdog from progress.

One whose colour does not work takes no jobs. The epoch changes hands only while no job runs: what began under one is
written under no other.
"""

from __future__ import annotations

import asyncio

from app.adapters.zeebe.worker import ZeebeJobWorker
from app.messaging.colours import Standing
from app.runtime.logging import get_logger
from app.runtime.notify import Notifier
from app.runtime.shutdown import Shutdown

log = get_logger(__name__)

_LOOK_INTERVAL = 1.0


class JobLoop:
    """Runs a job worker.

    Args:
        worker: the job worker.
        standing: whether it may work.
        shutdown: the request to stop.
        notifier: the service manager.
    """

    def __init__(self, worker: ZeebeJobWorker, standing: Standing, shutdown: Shutdown, notifier: Notifier) -> None:
        self._worker = worker
        self._standing = standing
        self._may_work = True
        self._shutdown = shutdown
        self._notifier = notifier
        self._status = ""

    def is_making_progress(self) -> bool:
        """Whether polls and jobs move and the engine answers."""
        return self._worker.is_engine_up and not self._worker.is_stalled()

    async def run(self) -> None:
        """Work until a stop is requested and everything is settled; raises what breaks the worker."""
        await self._take_turns()
        working = asyncio.create_task(self._worker.run())
        try:
            while not self._shutdown.requested and not working.done():
                await self._take_turns()
                self._look()
                await self._shutdown.sleep(self._interval)
            self._notifier.stopping()
            self._worker.stop()
            while not working.done():
                await asyncio.wait({working}, timeout=self._interval)
                self._notifier.watchdog()
        finally:
            working.cancel()
        await working

    @property
    def _interval(self) -> float:
        return min(self._notifier.feed_interval or _LOOK_INTERVAL, _LOOK_INTERVAL)

    async def _take_turns(self) -> None:
        """Take no jobs once the epoch is over, and the next epoch, where it is ours, when those that run have ended."""
        await self._standing.look()
        if self._standing.is_over:
            self._worker.rest()
        if not self._worker.running:
            self._may_work = self._standing.take()
            if self._may_work:
                self._worker.go_on()

    def _look(self) -> None:
        """Feed the watchdog while polls and jobs move, and show what is going on."""
        if self._worker.is_stalled():
            log.error("no progress")
        else:
            self._notifier.watchdog()
        status = f"{self._worker.running} jobs running" if self._worker.is_engine_up else "the engine does not answer"
        if not self._may_work:
            status = self._standing.status
        if status != self._status:
            self._status = status
            self._notifier.status(status)
