"""Who is connected to the database now, which servers follow it, and whether a release is under way. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.standby_reads import primary_position
from app.adapters.postgres.standbys import Standbys
from app.application.contract_phase import Session, StandbyState
from app.contracts.loader import load_database_grants

_SQL = NamedBlocks("live_sessions")
_OWNER = "cpq_owner"
_LOOKS_ON = "cpq_observer"
_LOOKS = 10


class LiveSessions:
    """One session of the operators' role on the primary."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def sessions(self) -> tuple[Session, ...]:
        """Return the sessions of every role that the platform's code has."""
        roles = [_OWNER, *(role for role in load_database_grants() if role != _LOOKS_ON)]
        rows = await (await self._connection.execute(_SQL["sessions"], {"roles": roles})).fetchall()
        return tuple(Session(**row) for row in rows)

    async def release(self) -> str:
        """Return the release that is under way, with who runs it; empty where none is."""
        if not await has_table(self._connection, "release_run"):
            return ""
        row = await (await self._connection.execute(_SQL["release"])).fetchone()
        return f"{row['release_id']} by {row['operator']}" if row else ""

    async def standbys(self, others: Standbys) -> StandbyState:
        """Return how far standbys are behind where the log is now; those that follow closely have some seconds to catch up."""
        position = await primary_position(self._connection)
        behind = _behind(await others.replayed(), position)
        for _ in range(_LOOKS):
            if not any(behind.values()):
                break
            await asyncio.sleep(1)
            behind = _behind(await others.replayed(), position)
        row = await (await self._connection.execute(_SQL["following"])).fetchone()
        return StandbyState(behind, row["following"] if row else 0)


def _behind(replayed: Mapping[str, int | None], position: int) -> dict[str, int | None]:
    return {name: None if place is None else max(0, position - place) for name, place in replayed.items()}
