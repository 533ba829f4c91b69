"""How loaded a process is: how late its event loop comes round, how long it waits for connections, what it uses of the host.

Figures are taken several times a second by the loop itself, so that a loop which is late is seen by its own lateness.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.runtime.clock import Clock, SystemClock
from app.runtime.metrics import LoadMetrics

_INTERVAL = 0.25
# What costs a read of /proc is taken less often.
_LOOPS_PER_LOOK = 8

PoolFigures = Callable[[], Mapping[str, int]]


class LoadMonitor:
    """Takes the figures of one process.

    Args:
        metrics: where they are shown.
        clock: monotonic time.
        interval: seconds between two times that the loop is expected to come round.
    """

    def __init__(self, metrics: LoadMetrics, clock: Clock, interval: float = _INTERVAL) -> None:
        self._metrics, self._clock, self._interval = metrics, clock, interval
        self._pools: list[PoolFigures] = []
        self._cpu = 0.0

    def watch_pool(self, figures: PoolFigures) -> None:
        """Show a connection pool's figures from now on; `figures` returns what psycopg_pool's `get_stats` does."""
        self._pools.append(figures)

    async def run(self) -> None:
        """Take figures until cancelled."""
        while True:
            self._look()
            for _ in range(_LOOPS_PER_LOOK):
                started = self._clock.monotonic()
                await asyncio.sleep(self._interval)
                self._metrics.lag(max(0.0, self._clock.monotonic() - started - self._interval))

    def _look(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._metrics.process(cpu - self._cpu, pages * os.sysconf("SC_PAGE_SIZE"))
        self._cpu = cpu
        for figures in self._pools:
            self._metrics.pool(figures())


@asynccontextmanager
async def watched(registry: CollectorRegistry, release_id: str) -> AsyncIterator[LoadMonitor]:
    """Take figures of this process as long as the context is open."""
    monitor = LoadMonitor(LoadMetrics(registry, release_id), SystemClock())
    task = asyncio.create_task(monitor.run())
    try:
        yield monitor
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
