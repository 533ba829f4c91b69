"""Epochs of roles as operators change them; see `app.application.colour_flip`."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import errors

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.colour_flip import EpochBusyError, RoleState, SeenProcess
from app.application.repair import RepairReason
from app.messaging.colours import Colour, RoleEpoch

_SQL = NamedBlocks("colour_desk")


class PostgresColourDesk:
    """On a connection of the operators' role; changes need its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def roles(self) -> Sequence[RoleState]:
        rows = await (await self._connection.execute(_SQL["epochs"])).fetchall()
        return [
            RoleState(row.pop("role"), RoleEpoch(row.pop("epoch"), Colour(row.pop("colour"))), **row) for row in rows
        ]

    async def processes(self) -> Sequence[SeenProcess]:
        rows = await (await self._connection.execute(_SQL["processes"])).fetchall()
        return [SeenProcess(**{**row, "colour": Colour(row["colour"])}) for row in rows]

    async def hold(self, role: str) -> None:
        try:
            # A refusal within a savepoint leaves the transaction able to say who is in the way.
            async with self._connection.transaction():
                await self._connection.execute(_SQL["hold"], {"role": role})
        except errors.LockNotAvailable as error:
            rows = await (await self._connection.execute(_SQL["holders"], {"role": role})).fetchall()
            raise EpochBusyError([row["application_name"] for row in rows]) from error

    async def move(self, role: str, colour: Colour, reason: RepairReason) -> RoleEpoch:
        values = {"role": role, "colour": colour, "changed_by": reason.operator, "reason": reason.text}
        row = await (await self._connection.execute(_SQL["move"], values)).fetchone()
        assert row is not None  # noqa: S101 - an upsert always has a row
        return RoleEpoch(row["epoch"], colour)
