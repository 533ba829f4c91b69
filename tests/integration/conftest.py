"""Real services for integration tests. Every test works in tenants of its own, so tests never see each other's rows."""

from __future__ import annotations

import asyncio
import shlex
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from app.adapters.postgres.grants import apply_grants
from app.adapters.postgres.migrations import Migrator
from app.adapters.postgres.pool import Connection, Pool, connection_parameters, make_pool
from app.contracts.loader import load_database_grants, load_units
from tests.support.operator import Operator
from tests.support.released_host import STATE, find_host
from tests.support.services import Services, find_services

ROOT = Path(__file__).resolve().parents[2]
STATEMENT_TIMEOUT = timedelta(seconds=5)
_WORKING = ("worker", "relay", "consumer")

OpenPool = Callable[[str], Awaitable[Pool]]


def units_at_rest() -> list[str]:
    """Return the units, and the timers, that take jobs, events or connections by themselves."""
    units = load_units()
    names = [
        units[unit].service.replace("@", f"@{instance}") if instance else units[unit].service
        for unit in _WORKING
        for instance in (units[unit].instances or [""])
    ]
    return [*names, "cpq-oms-drift.timer", "cpq-oms-reconcile.timer", "cpq-oms-smoke.timer"]


@pytest.fixture(scope="session")
def services() -> Services:
    """The services of the test inventory."""
    return find_services()


def systemctl_units(command: str, services: Services) -> None:
    """Stop or start what works by itself on the host of the services; services without hosts have no units."""
    if (STATE / services.environment / "ssh_config").is_file():
        find_host().run(f"systemctl {command} {shlex.join(units_at_rest())}")


@pytest.fixture(scope="session", autouse=True)
def _units_at_rest(services: Services) -> Iterator[None]:
    """The host's own units leave jobs, events and connections to the processes that tests start."""
    systemctl_units("stop", services)
    try:
        yield
    finally:
        systemctl_units("start", services)


@pytest.fixture(scope="session")
def schema(services: Services) -> None:
    """The database migrated and its privileges granted, as a release would do it."""
    url, password = services.database_url("owner"), services.secret("db_owner_password")
    Migrator(url, password, ROOT / "migrations", "tests").expand("tests")

    async def grant() -> None:
        connection: Connection = await psycopg.AsyncConnection.connect(
            url, password=password, autocommit=True, row_factory=dict_row
        )
        async with connection:
            await apply_grants(connection, load_database_grants())

    asyncio.run(grant())


@pytest.fixture
async def open_pool(services: Services, schema: None) -> AsyncIterator[OpenPool]:  # noqa: ARG001 (wanted for what it does)
    """Opens a pool of connections of a unit's own database role: `await open_pool("api")`."""
    async with AsyncExitStack() as stack:

        async def open_role(unit: str) -> Pool:
            parameters = connection_parameters(
                services.database_url(unit),
                services.secret(f"db_{unit}_password"),
                application_name="tests",
                statement_timeout=STATEMENT_TIMEOUT,
            )
            pool = make_pool(parameters, max_size=8, wait=STATEMENT_TIMEOUT)
            await stack.enter_async_context(pool)
            return pool

        yield open_role


@pytest.fixture
async def admin_connection(open_pool: OpenPool) -> AsyncIterator[Connection]:
    """A connection of the operators' role, which sees all tenants."""
    pool = await open_pool("admin")
    async with pool.connection() as connection:
        yield connection


@pytest.fixture
def operator(
    services: Services,
    schema: None,  # noqa: ARG001 (every command is audited)
    tmp_path_factory: pytest.TempPathFactory,
) -> Operator:
    """A person who runs commands."""
    return Operator(services, tmp_path_factory.mktemp("operator"))


@pytest.fixture
def tenant_id() -> str:
    """The name of a tenant that nobody else uses."""
    return f"test-{uuid.uuid4().hex[:20]}"
