"""Epochs of roles as processes ask for them; see `app.messaging.colours`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import PASSING_ERRORS, Pool, first_line
from app.messaging.colours import Colour, RoleEpoch, RoleProcess
from app.messaging.retry import Unavailable

_SQL = NamedBlocks("role_epochs")


class PostgresEpochStore:
    """See `app.messaging.colours.EpochStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def look(self, process: RoleProcess, held: int | None) -> RoleEpoch:
        row = await self._execute("look", {**asdict(process), "held": held})
        return RoleEpoch(row["epoch"], Colour(row["colour"])) if row else RoleEpoch()

    async def leave(self, process: RoleProcess) -> None:
        await self._execute("leave", asdict(process))

    async def _execute(self, block: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL[block], values)
                return await cursor.fetchone() if cursor.description else None
        except PASSING_ERRORS as error:
            raise Unavailable("postgresql", first_line(error)) from error
