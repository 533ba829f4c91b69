from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from app.adapters.postgres.catalog_seed import seed
from app.adapters.postgres.pool import Connection, Pool, connection_parameters, make_pool
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.application.ports import StoreUnavailable
from app.domain.values import TenantId
from tests.integration.conftest import OpenPool
from tests.support.builders import FIBER, fiber, published
from tests.support.services import Services
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def pool(open_pool: OpenPool) -> Pool:
    return await open_pool("api")


@pytest.fixture
async def tenants(admin_connection: Connection, tenant_id: str) -> tuple[TenantId, TenantId]:
    names = (TenantId(tenant_id), TenantId(f"{tenant_id}-b"))
    await seed(admin_connection, [published(name, [fiber()]) for name in names], "tests")
    return names


async def visible_tenants(uow: PostgresUnitOfWork) -> set[str]:
    cursor = await uow.connection.execute("SELECT tenant_id FROM cpq.product_offering")
    return {row["tenant_id"] for row in await cursor.fetchall()}


async def test_a_unit_of_work_sees_its_own_tenant_only(pool: Pool, tenants: tuple[TenantId, TenantId]) -> None:
    for tenant in tenants:
        async with PostgresUnitOfWork(pool, tenant) as uow:
            assert await visible_tenants(uow) == {tenant}


async def use_and_fail(pool: Pool, tenant: TenantId) -> None:
    async with PostgresUnitOfWork(pool, tenant) as uow:
        raise LookupError(await visible_tenants(uow))


async def lose_the_connection(pool: Pool, tenant: TenantId) -> None:
    async with PostgresUnitOfWork(pool, tenant) as uow, PostgresUnitOfWork(pool, tenant) as killer:
        victim = uow.connection.info.backend_pid
        await killer.connection.execute("SELECT pg_terminate_backend(%s)", [victim])
        await uow.catalog.active_version()


async def test_one_connection_serves_two_tenants_without_carrying_one_over(
    services: Services, tenants: tuple[TenantId, TenantId]
) -> None:
    parameters = connection_parameters(
        services.database_url("api"),
        services.secret("db_api_password"),
        application_name="tests",
        statement_timeout=timedelta(seconds=1),
    )
    mine, others = tenants
    async with make_pool(parameters, max_size=1, wait=timedelta(seconds=2)) as pool:
        with pytest.raises(LookupError):
            await use_and_fail(pool, mine)
        with pytest.raises(StoreUnavailable):
            async with PostgresUnitOfWork(pool, mine) as uow:
                await uow.connection.execute("SELECT pg_sleep(5)")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), PostgresUnitOfWork(pool, mine) as uow:
                await uow.connection.execute("SELECT pg_sleep(5)")
        async with PostgresUnitOfWork(pool, others) as uow:
            assert await visible_tenants(uow) == {others}
        async with pool.connection() as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute("SELECT FROM cpq.product_offering")


async def test_another_tenants_row_cannot_be_written(pool: Pool, tenants: tuple[TenantId, TenantId]) -> None:
    mine, others = tenants
    async with PostgresUnitOfWork(pool, mine) as uow:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            await uow.connection.execute(
                "INSERT INTO cpq.idempotency_record (tenant_id, principal, idempotency_key, request_sha256, status_code,"
                " response_headers, response_body, expires_at) VALUES (%s, 'p', 'k', '', 201, '{}', '', now())",
                [others],
            )


@pytest.mark.parametrize("statement", ["UPDATE cpq.audit_entry SET actor = 'x'", "SELECT * FROM cpq.audit_entry"])
async def test_the_api_cannot_read_or_change_the_audit(
    pool: Pool, tenants: tuple[TenantId, TenantId], statement: str
) -> None:
    async with PostgresUnitOfWork(pool, tenants[0]) as uow:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await uow.connection.execute(statement.encode())


async def test_work_goes_on_when_every_pooled_connection_has_been_killed(
    pool: Pool, tenants: tuple[TenantId, TenantId]
) -> None:
    units = [PostgresUnitOfWork(pool, tenants[0]) for _ in range(4)]
    for each in units:
        await each.__aenter__()
    pids = [each.connection.info.backend_pid for each in units]
    for each in units:
        await each.__aexit__(None, None, None)
    async with PostgresUnitOfWork(pool, tenants[0]) as uow:
        others = [pid for pid in pids if pid != uow.connection.info.backend_pid]
        await uow.connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::integer[]) AS pid", [others])

    for _ in range(8):
        async with PostgresUnitOfWork(pool, tenants[0]) as uow:
            assert FIBER in await uow.catalog.offerings(1, [FIBER])


async def test_a_connection_lost_half_way_is_told_as_unavailable(
    pool: Pool, tenants: tuple[TenantId, TenantId]
) -> None:
    with pytest.raises(StoreUnavailable):
        await lose_the_connection(pool, tenants[0])


async def test_a_database_that_is_back_after_seconds_is_used_at_once(
    services: Services, tenants: tuple[TenantId, TenantId]
) -> None:
    with TcpProxy(services.address("postgresql")) as way:
        parameters = connection_parameters(
            f"postgresql://cpq_api@{way.address}/cpq",
            services.secret("db_api_password"),
            application_name="tests",
            statement_timeout=timedelta(seconds=5),
        )
        async with make_pool(parameters, max_size=2, wait=timedelta(seconds=1)) as pool:
            async with PostgresUnitOfWork(pool, tenants[0]) as uow:
                assert await visible_tenants(uow) == {tenants[0]}
            way.is_refusing = True
            way.cut()
            for _ in range(6):
                with pytest.raises(StoreUnavailable):
                    await PostgresUnitOfWork(pool, tenants[0]).__aenter__()

            way.is_refusing = False
            async with PostgresUnitOfWork(pool, tenants[0]) as uow:
                assert await visible_tenants(uow) == {tenants[0]}


async def test_a_failed_statement_cannot_be_committed(pool: Pool, tenants: tuple[TenantId, TenantId]) -> None:
    async with PostgresUnitOfWork(pool, tenants[0]) as uow:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await uow.connection.execute("SELECT 1 / 0")
        with pytest.raises(RuntimeError):
            await uow.commit()


async def test_no_free_connection_is_told_as_unavailable(
    services: Services, tenants: tuple[TenantId, TenantId]
) -> None:
    parameters = connection_parameters(
        services.database_url("api"),
        services.secret("db_api_password"),
        application_name="tests",
        statement_timeout=timedelta(seconds=5),
    )
    pool = make_pool(parameters, max_size=1, wait=timedelta(seconds=0.2))
    async with pool, PostgresUnitOfWork(pool, tenants[0]):
        with pytest.raises(StoreUnavailable):
            await PostgresUnitOfWork(pool, tenants[1]).__aenter__()
