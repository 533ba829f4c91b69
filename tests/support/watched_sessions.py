"""Sessions of processes under test as their own role sees them, and moments at which their time can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.adapters.postgres.pool import Connection, Pool
from tests.support.unit_process import UnitProcess
from tests.support.waiting import eventually


class Watch:
    """What sessions of a role do, and locks in their way."""

    def __init__(self, same_role: Connection, owner: Connection) -> None:
        self._same_role, self._owner = same_role, owner

    async def waits(self, instance: str, statement: str = "%", *, for_lock: str = "%") -> bool:
        """Whether a session of the instance waits for a lock in a statement like this one."""
        cursor = await self._same_role.execute(
            "SELECT FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event_type = 'Lock'"
            " AND query LIKE %s AND wait_event LIKE %s",
            (f"{instance}/%", statement, for_lock),
        )
        return await cursor.fetchone() is not None

    async def freeze_in(self, process: UnitProcess, instance: str, statement: str, lock: str, *values: object) -> None:
        """Stop the time of a frozen process while this statement of its waits for `lock`; the server then carries it out."""
        for _ in range(20):
            async with self._owner.transaction():
                await self._owner.execute(lock, values)
                process.thaw()
                for _ in range(15):
                    if await self.waits(instance, statement):
                        process.freeze()
                        return
                    await asyncio.sleep(0.1)
            # Another statement of its waited first; it goes on before the next try.
            await asyncio.sleep(0.3)
            process.freeze()
        raise AssertionError(f"{instance} was never seen to wait in {statement}")

    async def freeze_before_its_epoch(self, process: UnitProcess, instance: str) -> None:
        """Stop the time of a process that is about to write, in the moment in which it has to wait for a change of the epoch."""

        async def waits() -> bool:
            return await self.waits(instance, for_lock="advisory")

        await eventually(waits, f"{instance} waits for a change of the epoch")
        process.freeze()


@asynccontextmanager
async def watching(pool: Pool, owner: Connection) -> AsyncIterator[Watch]:
    """Watch sessions of the role that the pool's connections have."""
    async with pool.connection() as same_role:
        yield Watch(same_role, owner)
