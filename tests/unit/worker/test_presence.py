"""A heartbeat is a sign of work, not of life."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from app.application.ports import WorkerRegistration
from app.entrypoints.worker.presence import Presence

REGISTRATION = WorkerRegistration("tests", "fulfillment", ["step"], [1], "release", datetime(2026, 11, 22, tzinfo=UTC))


class Registrations:
    """Counts what is announced."""

    def __init__(self) -> None:
        self.announced = 0
        self.removed = 0
        self.beaten = asyncio.Event()

    async def announce(self, registration: WorkerRegistration) -> None:
        self.announced += 1
        self.beaten.set()

    async def remove(self, registration: WorkerRegistration) -> None:
        self.removed += 1


async def test_a_process_whose_work_does_not_move_sends_no_heartbeat() -> None:
    registrations, looks, is_moving = Registrations(), list[bool](), True

    def look() -> bool:
        looks.append(is_moving)
        return is_moving

    async with asyncio.timeout(5), Presence(registrations, REGISTRATION, look, interval=0.001):
        registrations.beaten.clear()
        await registrations.beaten.wait()
        is_moving, looks[:] = False, []
        while len(looks) < 3:  # noqa: ASYNC110 (looks at what the heart does by itself)
            await asyncio.sleep(0.001)
        before = registrations.announced
        looks.clear()
        while len(looks) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert registrations.announced == before
        is_moving = True
        registrations.beaten.clear()
        await registrations.beaten.wait()

    assert registrations.removed == 1
