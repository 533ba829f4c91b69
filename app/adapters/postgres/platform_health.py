"""What the database says of itself and of the platform's work, for the release checks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection

_SQL = NamedBlocks("platform_health")


@dataclass(frozen=True)
class DatabaseState:
    """Room and role of the server."""

    is_standby: bool
    allowed: int
    used: int


class PlatformHealth:
    """Read-only questions; a table that is not there yet answers None."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def database(self) -> DatabaseState:
        """Connections used and allowed, and whether the server is a standby."""
        return DatabaseState(**await self._one("database", {}))

    async def lock_waits(self, longer_than: timedelta) -> tuple[int, float]:
        """How many sessions wait for a lock for longer than that, and the longest wait in seconds."""
        row = await self._one("lock_waits", {"longer_than": longer_than})
        return row["waiting"], row["longest_seconds"]

    async def outbox_backlog(self) -> int | None:
        """Events not yet published."""
        if not await has_table(self._connection, "outbox_event"):
            return None
        backlog: int = (await self._one("outbox", {}))["backlog"]
        return backlog

    async def open_fallout(self) -> int | None:
        """Open fallout cases."""
        if not await has_table(self._connection, "fallout_case"):
            return None
        cases: int = (await self._one("open_fallout", {}))["open"]
        return cases

    async def orders_ended(self, since: datetime) -> tuple[int, int]:
        """Orders that ended completed, and orders that failed or fell out, since a moment."""
        row = await self._one("orders_ended", {"since": since})
        return row["completed"], row["failed"]

    async def now(self) -> datetime:
        """The database's clock."""
        moment: datetime = (await self._one("now", {}))["now"]
        return moment

    async def _one(self, block: str, values: dict[str, Any]) -> dict[str, Any]:
        row = await (await self._connection.execute(_SQL[block], values)).fetchone()
        if row is None:
            raise LookupError(f"{block} answered no row")
        return row
