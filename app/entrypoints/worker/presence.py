"""A worker's registration: written at the start, renewed while it lives, removed when it stops as it should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from app.application.ports import StoreUnavailable, WorkerRegistration, WorkerRegistrations
from app.runtime.logging import get_logger

log = get_logger(__name__)

HEARTBEAT_SECONDS = 10.0


class Presence:
    """The registration for the time of an `async with` block.

    A process that dies leaves its registration behind with an old heartbeat; that is how its death is seen. One whose work
    does not move sends none either: it serves nothing, however much it lives.

    Args:
        registrations: where it is written.
        registration: what the process serves.
        is_making_progress: whether its work moves.
        interval: seconds between heartbeats.
    """

    def __init__(
        self,
        registrations: WorkerRegistrations,
        registration: WorkerRegistration,
        is_making_progress: Callable[[], bool],
        interval: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._registrations = registrations
        self._registration = registration
        self._is_making_progress = is_making_progress
        self._interval = interval
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Register.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        await self._registrations.announce(self._registration)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        if error is None:
            try:
                await self._registrations.remove(self._registration)
            except StoreUnavailable as unavailable:
                log.warning("registration not removed", error=str(unavailable))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if not self._is_making_progress():
                log.warning("no heartbeat: no progress")
                continue
            try:
                await self._registrations.announce(self._registration)
            except StoreUnavailable as error:
                log.warning("no heartbeat", error=str(error))
