"""Freezes of releases, in rows of cpq.release_freeze."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import psycopg

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection
from app.application.release_freeze import Freeze, FreezeRefusedError
from app.application.repair import RepairReason

_SQL = NamedBlocks("release_freezes")


class ReleaseFreezes:
    """Declares and ends them, in the caller's transaction; none is in force before the migration that brings the table."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def in_force(self) -> Freeze | None:
        """The freeze that nobody ended and that has not ended by itself."""
        if not await has_table(self._connection, "release_freeze"):
            return None
        row = await (await self._connection.execute(_SQL["in_force"])).fetchone()
        return Freeze(**row) if row else None

    async def freeze(self, freeze_id: UUID, reason: RepairReason, until: datetime | None) -> Freeze:
        """Declare one.

        Raises:
            FreezeRefusedError: another one is in force, or it would have ended before it began.
        """
        if (there := await self.in_force()) is not None:
            raise FreezeRefusedError(f"releases are frozen already: {there.words}")
        values = {"freeze_id": freeze_id, "reason": reason.text, "operator": reason.operator, "until": until}
        await self._connection.execute(_SQL["end_overdue"])
        try:
            row = await (await self._connection.execute(_SQL["declare"], values)).fetchone()
        except psycopg.errors.CheckViolation as error:
            raise FreezeRefusedError(f"--until: expected a time to come, found {until}") from error
        except psycopg.errors.UniqueViolation as error:
            raise FreezeRefusedError(
                "another freeze was declared at the same moment: see cpq-oms-admin release status"
            ) from error
        if row is None:
            raise LookupError("the freeze that was written is not there")
        return Freeze(**row)

    async def thaw(self, reason: RepairReason) -> Freeze:
        """End the one that is in force, and return what it was.

        Raises:
            FreezeRefusedError: none is in force.
        """
        there = await self.in_force()
        if there is None:
            raise FreezeRefusedError("no freeze is in force: nothing to end")
        await self._connection.execute(_SQL["thaw"], {"operator": reason.operator})
        return there
