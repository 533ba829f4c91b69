"""Which migration this code needs: a unit that finds an older schema must not start, and does not migrate it either."""

from __future__ import annotations

from typing import Any

from psycopg import errors

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection, RoleConnection

REQUIRED_MIGRATION = "0028_expand_release_freeze"

_SQL = NamedBlocks("schema")


class SchemaTooOldError(Exception):
    """The database is not at the migration that this release needs; the message names it."""


async def ensure_schema(connection: Connection) -> None:
    """Compare the ledger of migrations with what this code needs.

    Raises:
        SchemaTooOldError: the required migration is not applied, or none at all.
        psycopg.Error: the database cannot be asked.
    """
    try:
        cursor = await connection.execute(_SQL["is_applied"], {"migration": REQUIRED_MIGRATION})
    except errors.UndefinedTable:
        raise SchemaTooOldError("no migration was ever applied to the database") from None
    row = await cursor.fetchone()
    if row is None or not row["is_applied"]:
        raise SchemaTooOldError(f"migration {REQUIRED_MIGRATION} is not applied to the database")


async def ensure_reachable(parameters: dict[str, Any]) -> None:
    """Check reachability and schema on a connection of its own, for a unit's start.

    A pool would hide why it gets no connection, and try for a long time.

    Args:
        parameters: from `app.adapters.postgres.pool.connection_parameters`.

    Raises:
        SchemaTooOldError, psycopg.Error: as `ensure_schema`.
    """
    connection: Connection = await RoleConnection.connect(**parameters)
    async with connection:
        await ensure_schema(connection)
