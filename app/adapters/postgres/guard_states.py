"""The guards of external systems as an operator sees them: their state, and an early end of a pause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection

_SQL = NamedBlocks("guard_states")


@dataclass(frozen=True)
class GuardState:
    """What the guard of a system knows; the times until something ends are None where nothing is under way."""

    external_system: str
    state: str
    failures: int
    unproven: int
    open_until: datetime | None
    hold_until: datetime | None
    last_error: str | None
    changed_at: datetime


async def guard_states(connection: Connection) -> list[GuardState]:
    """Every guard that was ever asked, by system."""
    cursor = await connection.execute(_SQL["states"])
    return [
        GuardState(
            external_system=row["external_system"],
            state=row["state"],
            failures=row["failures"],
            unproven=row["unproven"],
            open_until=row["open_until"] if row["state"] == "open" else None,
            hold_until=row["hold_until"] if row["hold_until"] and row["hold_until"] > row["now"] else None,
            last_error=row["last_error"],
            changed_at=row["changed_at"],
        )
        for row in await cursor.fetchall()
    ]


async def reset_guard(connection: Connection, system: str) -> dict[str, object] | None:
    """Close a breaker and end every pause; returns what was before, None for a system that was never called."""
    row = await (await connection.execute(_SQL["reset"], {"system": system})).fetchone()
    return None if row is None else dict(row)
