"""The start-up check that the schema is new enough for this code; nothing here changes it."""

from __future__ import annotations

import psycopg
from psycopg import errors
from psycopg_pool import PoolTimeout

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Pool
from app.messaging.retry import Unavailable

_SQL = NamedBlocks("schema")


class SchemaTooOld(Exception):  # noqa: N818 (a state of the environment, cured by a migration)
    """A migration that this code needs was not applied."""


async def require_migration(pool: Pool, migration: str) -> None:
    """Return when the migration, such as `0005_expand_messaging`, is applied.

    Raises:
        SchemaTooOld: it is not.
        Unavailable: the database cannot be asked.
    """
    try:
        async with pool.connection() as connection:
            row = await (await connection.execute(_SQL["is_applied"], {"migration": migration})).fetchone()
    except errors.UndefinedTable as error:
        raise SchemaTooOld(f"migration {migration} is not applied: the database has no migration ledger") from error
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise Unavailable("postgresql", (str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    if row is None or not row["applied"]:
        raise SchemaTooOld(f"migration {migration} is not applied")
