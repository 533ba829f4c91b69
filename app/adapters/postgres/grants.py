"""Brings table and function privileges to exactly what the contract declares, in one transaction.

Compares what PostgreSQL has (its access lists) with what is declared, so that a privilege somebody gave by hand is
reported and taken away, and a run without a difference changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, LiteralString

from psycopg import sql
from psycopg.rows import DictRow

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.operations import OperationError
from app.contracts.loader import RoleGrants

_SQL = NamedBlocks("grants")


class GrantsRefusedError(OperationError):
    """The contract names a table, function or role that the database does not have; `problems` has a line for each."""


@dataclass(frozen=True, order=True)
class Grant:
    """One privilege of one role on one object of the schema."""

    role: str
    kind: Literal["table", "function", "schema"]
    name: str
    privilege: str

    def __str__(self) -> str:
        return f"{self.role}: {self.privilege} on {self.kind} {self.name}"


@dataclass(frozen=True)
class GrantsPlan:
    """What differs from the contract.

    Attributes:
        missing, undeclared: privileges to give and to take.
        awaited: what the contract names and the database does not have; migrations that are still to come may bring it.
        present: every privilege that the database has, undeclared ones among them.
    """

    missing: tuple[Grant, ...]
    undeclared: tuple[Grant, ...]
    awaited: tuple[str, ...] = ()
    present: tuple[Grant, ...] = ()

    @property
    def changes(self) -> list[str]:
        """One line per difference."""
        return [
            *(f"grant {grant}" for grant in self.missing),
            *(f"revoke {grant}" for grant in self.undeclared),
            *(f"grant what is declared on {name}, once migrations have made it" for name in self.awaited),
        ]


async def plan_grants(connection: Connection, declared: Mapping[str, RoleGrants]) -> GrantsPlan:
    """Compare without changing.

    Raises:
        GrantsRefusedError: the contract names a role that the server does not have.
    """
    if (await _rows(connection, "schema"))[0]["missing"]:
        return GrantsPlan((), (), ("schema cpq",))
    tables, functions, roles = [
        {row["name"] for row in await _rows(connection, block)} for block in ("tables", "functions", "roles")
    ]
    absent_roles = [f"role {role} does not exist" for role in declared if role not in roles]
    if absent_roles:
        raise GrantsRefusedError(*absent_roles)
    wanted: set[Grant] = set()
    for role, grants in declared.items():
        wanted.add(Grant(role, "schema", "cpq", "USAGE"))
        for pattern, privileges in grants.tables.items():
            # yoyo's own tables are the owner's alone: `*` does not cover them.
            names = sorted(name for name in tables if "yoyo" not in name) if pattern == "*" else [pattern]
            wanted |= {Grant(role, "table", name, privilege) for name in names for privilege in privileges}
        wanted |= {Grant(role, "function", name, "EXECUTE") for name in grants.functions}
    there = {("schema", "cpq"), *(("table", name) for name in tables), *(("function", name) for name in functions)}
    awaited = {f"{grant.kind} {grant.name}" for grant in wanted if (grant.kind, grant.name) not in there}
    grantable = {grant for grant in wanted if (grant.kind, grant.name) in there}
    present = {Grant(**row) for row in await _rows(connection, "present")}
    return GrantsPlan(
        missing=tuple(sorted(grantable - present)),
        undeclared=tuple(sorted(present - grantable)),
        awaited=tuple(sorted(awaited)),
        present=tuple(sorted(present)),
    )


async def apply_grants(connection: Connection, declared: Mapping[str, RoleGrants]) -> GrantsPlan:
    """Give what is missing, take what is undeclared, all or nothing.

    Raises:
        GrantsRefusedError: the contract names what the database does not have; nothing was changed.
    """
    async with connection.transaction():
        plan = await plan_grants(connection, declared)
        if plan.awaited:
            raise GrantsRefusedError(
                *(f"{name} does not exist: cpq-oms-admin migrate expand comes first" for name in plan.awaited)
            )
        for grant in plan.undeclared:
            await connection.execute(_statement("REVOKE {} ON {} FROM {}", grant))
        for grant in plan.missing:
            await connection.execute(_statement("GRANT {} ON {} TO {}", grant))
    return plan


def _statement(verb: LiteralString, grant: Grant) -> sql.Composed:
    place: sql.Composable
    if grant.kind == "schema":
        place = sql.SQL("SCHEMA cpq")
    elif grant.kind == "function":
        # Identity as PostgreSQL itself printed it, or as the contract's pattern allows: lower-case type names only.
        place = sql.SQL("FUNCTION cpq.") + sql.SQL(grant.name)
    else:
        place = sql.SQL("TABLE ") + sql.Identifier("cpq", grant.name)
    role = sql.SQL("PUBLIC") if grant.role == "PUBLIC" else sql.Identifier(grant.role)
    return sql.SQL(verb).format(sql.SQL(grant.privilege), place, role)


async def _rows(connection: Connection, block: str) -> list[DictRow]:
    return await (await connection.execute(_SQL[block])).fetchall()
