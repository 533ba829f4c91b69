"""Shows how many steps wait for a person: counted in the database, so that it is the same on every host and after every restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from app.application.ports import StoreUnavailable
from app.runtime.logging import get_logger

log = get_logger(__name__)

INTERVAL_SECONDS = 10.0


class FalloutObserver(Protocol):
    """Is told how many cases are open: metrics, never decisions."""

    def open_fallout(self, cases: Mapping[str, int]) -> None:
        """So many cases are open, by step."""
        ...


async def watch_fallout(
    count: Callable[[], Awaitable[Mapping[str, int]]],
    observer: FalloutObserver,
    steps: Iterable[str],
    interval: float = INTERVAL_SECONDS,
) -> None:
    """Count and show until cancelled; a step without a case shows 0, and the last count stays while nobody can count."""
    none = dict.fromkeys(steps, 0)
    while True:
        try:
            observer.open_fallout(none | dict(await count()))
        except StoreUnavailable as error:
            log.warning("open fallout cases not counted", error=str(error))
        await asyncio.sleep(interval)
