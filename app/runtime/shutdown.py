"""SIGTERM and SIGINT as an event the main loop can wait for: the loop decides where it is safe to stop."""

from __future__ import annotations

import asyncio
import signal


class Shutdown:
    """A request to stop, made once and never withdrawn."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @classmethod
    def on_signals(cls) -> Shutdown:
        """Return a shutdown that SIGTERM or SIGINT requests; call inside the running event loop."""
        shutdown = cls()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, shutdown.request)
        return shutdown

    @property
    def requested(self) -> bool:
        """Whether to take no new work."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the loop to stop at its next safe point."""
        self._event.set()

    async def wait(self) -> None:
        """Return when a stop is requested."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> bool:
        """Wait `seconds`, or less when a stop is requested; answer whether one is."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return False
        return True
