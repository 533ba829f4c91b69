"""The tenant wall in the database, for every table and every role that the grants name: nobody reads or writes across it.

What is tried follows from the catalog and from database_grants.yml, so that a table that is added later is tried too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg import sql

from app.adapters.postgres.pool import Connection
from app.contracts.loader import load_database_grants
from tests.integration.conftest import OpenPool

# Roles that act for one tenant at a time. The relay moves envelopes of all tenants and sees nothing else that is a tenant's;
# admin and observer look over the walls, each command of an operator audited.
WALLED = ("api", "worker", "consumer", "callback")
GRANTS = load_database_grants()
TENANT, OTHER = "walled-tenant", "other-tenant"


def granted(privilege: str) -> Iterator[tuple[str, str]]:
    """Each walled role with each table on which it has a privilege."""
    for unit in WALLED:
        for table, privileges in GRANTS[f"cpq_{unit}"].tables.items():
            if privilege in privileges:
                yield unit, table


@pytest.fixture
async def tenant_tables(admin_connection: Connection) -> set[str]:
    """Every table that says whose a row is."""
    cursor = await admin_connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relnamespace = 'cpq'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'tenant_id'"
    )
    return {row["relname"] for row in await cursor.fetchall()}


async def test_every_table_with_a_tenant_forces_the_wall_on_everybody(
    admin_connection: Connection, tenant_tables: set[str]
) -> None:
    cursor = await admin_connection.execute(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS is_forced, "
        "array(SELECT p.policyname::text FROM pg_policies p WHERE p.schemaname = 'cpq' AND p.tablename = c.relname) AS policies "
        "FROM pg_class c WHERE c.relnamespace = 'cpq'::regnamespace AND c.relkind IN ('r', 'p')"
    )
    unwalled = [
        row["relname"]
        for row in await cursor.fetchall()
        if row["relname"] in tenant_tables - operators_own(tenant_tables)
        and not (row["is_forced"] and "tenant_wall" in row["policies"])
    ]

    assert unwalled == []
    assert len(tenant_tables) > 20


def operators_own(tables: set[str]) -> set[str]:
    """Tables on which no walled role may do anything: their rows are of operators, about tenants."""
    reachable = {table for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE") for _, table in granted(privilege)}
    return tables - reachable


async def as_tenant(connection: Connection, statement: sql.Composed) -> int:
    """Execute a statement as a unit acting for TENANT, and take it back; return how many rows it touched."""
    async with connection.transaction(force_rollback=True):
        await connection.execute("SELECT set_config('cpq.tenant_id', %s, true)", [TENANT])
        return (await connection.execute(statement)).rowcount


@pytest.mark.parametrize(("unit", "table"), sorted(granted("SELECT")))
async def test_no_row_of_another_tenant_is_read(
    open_pool: OpenPool, tenant_tables: set[str], unit: str, table: str
) -> None:
    if table not in tenant_tables:
        return
    # A route for all tenants belongs to none of them.
    shared = sql.SQL(" AND tenant_id IS NOT NULL" if table == "process_route" else "")
    statement = sql.SQL("SELECT 1 FROM {} WHERE tenant_id IS DISTINCT FROM {}{} LIMIT 1")
    async with (await open_pool(unit)).connection() as connection:
        asked = statement.format(sql.Identifier("cpq", table), sql.Literal(TENANT), shared)
        assert await as_tenant(connection, asked) == 0


@pytest.mark.parametrize(("unit", "table"), sorted(granted("INSERT")))
async def test_no_row_is_written_for_another_tenant(
    open_pool: OpenPool, tenant_tables: set[str], unit: str, table: str
) -> None:
    if table not in tenant_tables:
        return
    statement = sql.SQL("INSERT INTO {} (tenant_id) VALUES ({})")
    async with (await open_pool(unit)).connection() as connection:
        # PostgreSQL asks the wall before it looks at the other columns.
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            await as_tenant(connection, statement.format(sql.Identifier("cpq", table), sql.Literal(OTHER)))
        with suppress(
            psycopg.errors.IntegrityError
        ):  # the wall lets its own row through, and other columns are wanting
            await as_tenant(connection, statement.format(sql.Identifier("cpq", table), sql.Literal(TENANT)))


@pytest.mark.parametrize("privilege", ["UPDATE", "DELETE"])
async def test_no_row_of_another_tenant_is_changed_or_deleted(
    open_pool: OpenPool, tenant_tables: set[str], privilege: str
) -> None:
    statements = {
        "UPDATE": "UPDATE {} SET tenant_id = tenant_id WHERE tenant_id <> {}",
        "DELETE": "DELETE FROM {} WHERE tenant_id <> {}",
    }
    tried = [(unit, table) for unit, table in granted(privilege) if table in tenant_tables]
    for unit, table in tried:
        async with (await open_pool(unit)).connection() as connection:
            statement = sql.SQL(statements[privilege]).format(sql.Identifier("cpq", table), sql.Literal(TENANT))
            assert await as_tenant(connection, statement) == 0, (unit, table)
    assert tried


async def test_without_a_tenant_nothing_is_read(open_pool: OpenPool) -> None:
    for unit in WALLED:
        table = "external_callback" if unit == "callback" else "product_order"
        async with (await open_pool(unit)).connection() as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(sql.SQL("SELECT 1 FROM {}").format(sql.Identifier("cpq", table)))
