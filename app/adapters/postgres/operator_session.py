"""One connection for one operator's command: opened, used, closed. Units that keep running use the pool instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg

from app.adapters.postgres.pool import Connection, RoleConnection, connection_parameters
from app.application.operations import OperationError

_HAS_TABLE = """
    SELECT EXISTS (
        SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'cpq' AND c.relname = %(table)s
            AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    ) AS there
"""

_HAS_COLUMN = """
    SELECT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('cpq.' || %(table)s) AND attname = %(column)s AND NOT attisdropped
    ) AS there
"""


class DatabaseUnreachableError(OperationError):
    """PostgreSQL did not accept the connection; the message is the server's or the network's own."""


@asynccontextmanager
async def open_session(
    url: str, passwords: Sequence[str], application_name: str, statement_timeout: timedelta
) -> AsyncIterator[Connection]:
    """Connect; each statement is its own transaction unless the caller opens one.

    Raises:
        DatabaseUnreachableError: no connection in time, or credentials refused.
    """
    parameters = connection_parameters(
        url, *passwords, application_name=application_name, statement_timeout=statement_timeout
    )
    try:
        connection: Connection = await RoleConnection.connect(**parameters)
    except psycopg.OperationalError as error:
        raise DatabaseUnreachableError(str(error).strip().splitlines()[0]) from error
    async with connection:
        yield connection


async def has_table(connection: Connection, table: str) -> bool:
    """Tell whether the table is there for this role: not before the first migrations and grants."""
    cursor = await connection.execute(_HAS_TABLE, {"table": table})
    row = await cursor.fetchone()
    return bool(row and row["there"])


async def has_column(connection: Connection, table: str, column: str) -> bool:
    """Tell whether the table is there for this role and has the column: not before the migration that adds it."""
    if not await has_table(connection, table):
        return False
    row = await (await connection.execute(_HAS_COLUMN, {"table": table, "column": column})).fetchone()
    return bool(row and row["there"])
