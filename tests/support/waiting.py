"""Waits for a condition to come true, by looking, with a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], Awaitable[bool]], claim: str, seconds: float = 30.0) -> None:
    """Return when `condition` holds.

    Raises:
        AssertionError: it does not in time; the message is the claim.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {claim}")
        await asyncio.sleep(0.1)


def until(condition: Callable[[], bool], claim: str, seconds: float = 30.0) -> None:
    """Return when `condition` holds: for tests that do not wait for anything else meanwhile.

    Raises:
        AssertionError: it does not in time; the message is the claim.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {claim}")
        time.sleep(0.1)
