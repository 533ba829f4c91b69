"""Expand migrations on a database of their own: once each, whole or not at all, and never what was not asked for."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from app.adapters.postgres.grants import GrantsPlan, GrantsRefusedError, apply_grants, plan_grants
from app.adapters.postgres.migrations import (
    MigrationBusyError,
    MigrationFailedError,
    MigrationRefusedError,
    Migrator,
)
from app.adapters.postgres.operator_session import open_session
from app.contracts.loader import load_database_grants
from tests.support.released_host import ReleasedHost, find_host

MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"
DATABASE = "cpq_test_migrations"
PORT = 5499
CLUSTER = "/var/lib/postgresql/cpq-test-migrations"
BIN = "/usr/lib/postgresql/17/bin"
AS_POSTGRES = "runuser -u postgres --"
PSQL = f"{AS_POSTGRES} psql -h /tmp -p {PORT} -qX -v ON_ERROR_STOP=1 postgres"


@pytest.fixture(scope="module")
def host() -> Iterator[ReleasedHost]:
    """The host with a database cluster of the tests' own, so that nothing here meets the platform's data."""
    found = find_host()
    roles = " ".join(f'-c "CREATE ROLE {role} LOGIN"' for role in ("cpq_owner", *load_database_grants()))
    options = f"-p {PORT} -k /tmp -c listen_addresses={found.address} -c fsync=off -c shared_buffers=32MB"
    try:
        found.run(f"{AS_POSTGRES} {BIN}/initdb -D {CLUSTER} --auth=trust --encoding=UTF8 --locale=C.UTF-8")
        found.run(f"echo 'host all all {found.address}/24 trust' >> {CLUSTER}/pg_hba.conf")
        found.run(f"{AS_POSTGRES} {BIN}/pg_ctl -D {CLUSTER} -o '{options}' -l {CLUSTER}/log -w start")
        found.run(f"{PSQL} {roles}")
        yield found
    finally:
        found.run(f"{AS_POSTGRES} {BIN}/pg_ctl -D {CLUSTER} -m immediate -w stop; rm -rf {CLUSTER}", check=False)


@pytest.fixture
def url(host: ReleasedHost) -> str:
    """An empty database of the owner's."""
    drop = f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"
    host.run(f"{PSQL} -c '{drop}' -c 'CREATE DATABASE {DATABASE} OWNER cpq_owner'")
    return f"postgresql://cpq_owner@{host.address}:{PORT}/{DATABASE}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundle's migrations, to be added to and spoilt."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


@pytest.fixture
def password() -> str:
    """The cluster trusts its own network."""
    return "none"


@pytest.fixture
def migrator(url: str, folder: Path, password: str) -> Migrator:
    return Migrator(url, password, folder, "tests/migrations")


def add(folder: Path, name: str, statement: str, verify: str = "SELECT 1;") -> None:
    """Add a file with its verify script and its line in the ledger."""
    path = folder / f"{name}.sql"
    path.write_text(statement)
    (folder / "verify" / f"{name}.sql").write_text(verify)
    ledger = folder / "ledger.txt"
    ledger.write_text(f"{ledger.read_text()}{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n")


def tables(url: str, password: str) -> set[str]:
    with psycopg.connect(url, password=password) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'cpq'::regnamespace AND relkind = 'r'"
        )
        return {str(row[0]) for row in rows}


def test_from_empty_everything_is_applied_once(migrator: Migrator) -> None:
    names = tuple(path.stem for path in sorted((MIGRATIONS / "verify").glob("*.sql")) if "_expand_" in path.name)

    assert migrator.plan().pending == names
    assert migrator.expand("release-1").migrations == names
    assert migrator.plan().pending == ()
    assert migrator.expand("release-1").migrations == ()


def test_an_edited_applied_file_is_refused_by_its_name(migrator: Migrator, folder: Path) -> None:
    migrator.expand("release-1")
    path = folder / "0003_expand_quote.sql"
    path.write_text(path.read_text() + "-- edited\n")

    with pytest.raises(MigrationRefusedError, match=r"0003_expand_quote.sql was edited after it was applied"):
        migrator.expand("release-2")


def test_a_file_that_comes_before_an_applied_one_is_refused(migrator: Migrator, folder: Path) -> None:
    migrator.expand("release-1")
    add(folder, "0002_expand_abc", "CREATE TABLE cpq.late (id integer);")

    with pytest.raises(MigrationRefusedError, match=r"0002_expand_abc.sql comes before 0"):
        migrator.plan()


def test_backfill_and_contract_files_are_never_run(migrator: Migrator, folder: Path, url: str, password: str) -> None:
    add(folder, "0900_contract_drop_flags", "DROP TABLE cpq.feature_flag;")
    add(folder, "0901_backfill_nothing", "SELECT 1;")

    migrator.expand("release-1")

    assert "feature_flag" in tables(url, password)
    assert migrator.plan().later == ("0900_contract_drop_flags", "0901_backfill_nothing")


def test_what_fails_or_is_not_verified_leaves_no_trace(
    migrator: Migrator, folder: Path, url: str, password: str
) -> None:
    add(folder, "0900_expand_half", "CREATE TABLE cpq.half (id integer);\nSELECT 1/0;")

    with pytest.raises(MigrationFailedError, match=r"0900_expand_half.sql was rolled back: division by zero"):
        migrator.expand("release-1")

    assert "half" not in tables(url, password)
    assert migrator.plan().pending == ("0900_expand_half",)


def test_a_verify_script_that_fails_undoes_its_migration(
    migrator: Migrator, folder: Path, url: str, password: str
) -> None:
    add(folder, "0900_expand_unverified", "CREATE TABLE cpq.unverified (id integer);", verify="SELECT 1/0;")

    with pytest.raises(MigrationFailedError, match=r"0900_expand_unverified.sql"):
        migrator.expand("release-1")

    assert "unverified" not in tables(url, password)


def test_the_lock_row_of_a_killed_run_is_removed(migrator: Migrator, folder: Path, url: str, password: str) -> None:
    migrator.expand("release-1")
    with psycopg.connect(url, password=password, autocommit=True) as connection:
        connection.execute("INSERT INTO cpq.yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4711)")
    add(folder, "0900_expand_next", "CREATE TABLE cpq.next_one (id integer);")

    done = migrator.expand("release-2")

    assert done.migrations == ("0900_expand_next",)
    assert done.broke_stale_lock


def test_a_run_under_way_is_left_alone_and_named(migrator: Migrator, url: str, password: str) -> None:
    with psycopg.connect(url, password=password, application_name="the-other/release") as other:
        other.execute("SELECT pg_advisory_lock(20261, 1)")

        with pytest.raises(MigrationBusyError, match="the-other/release"):
            migrator.expand("release-1")


def test_a_lock_that_traffic_holds_for_a_moment_is_waited_for(
    migrator: Migrator, folder: Path, url: str, password: str
) -> None:
    migrator.expand("release-1")
    add(folder, "0900_expand_column", "SET lock_timeout = '200ms';\nALTER TABLE cpq.tenant ADD COLUMN note text;")

    async def release_after_a_while(connection: psycopg.Connection) -> None:
        await asyncio.sleep(1)
        connection.rollback()

    async def both() -> tuple[str, ...]:
        with psycopg.connect(url, password=password) as other:
            other.execute("LOCK TABLE cpq.tenant IN ACCESS EXCLUSIVE MODE")
            done, _ = await asyncio.gather(
                asyncio.to_thread(migrator.expand, "release-2"), release_after_a_while(other)
            )
            return done.migrations

    assert asyncio.run(both()) == ("0900_expand_column",)


def test_grants_are_brought_to_the_contract_and_back_to_it(migrator: Migrator, url: str, password: str) -> None:
    migrator.expand("release-1")
    declared = load_database_grants()

    async def apply_twice() -> tuple[GrantsPlan, GrantsPlan]:
        async with open_session(url, password, "tests/grants", timedelta(seconds=10)) as connection:
            await apply_grants(connection, declared)
            settled = await plan_grants(connection, declared)
            await connection.execute("GRANT DELETE ON cpq.quote TO cpq_api")
            await connection.execute("REVOKE SELECT ON cpq.quote FROM cpq_api")
            return settled, await apply_grants(connection, declared)

    settled, repaired = asyncio.run(apply_twice())

    assert settled.changes == []
    assert repaired.changes == [
        "grant cpq_api: SELECT on table quote",
        "revoke cpq_api: DELETE on table quote",
    ]


def test_grants_before_the_first_migration_wait_for_it(url: str, password: str) -> None:
    async def plan() -> GrantsPlan:
        async with open_session(url, password, "tests/grants", timedelta(seconds=10)) as connection:
            return await plan_grants(connection, load_database_grants())

    assert asyncio.run(plan()).changes == ["grant what is declared on schema cpq, once migrations have made it"]


def test_grants_on_a_table_of_a_pending_migration_are_planned_and_not_yet_applied(
    migrator: Migrator, url: str, password: str
) -> None:
    """A release plans before it migrates: the new contract meets the old schema."""
    migrator.expand("release-1")
    declared = dict(load_database_grants())
    api = declared["cpq_api"]
    declared["cpq_api"] = api.model_copy(update={"tables": {**api.tables, "price_list": ("SELECT",)}})

    async def plan_and_apply() -> GrantsPlan:
        async with open_session(url, password, "tests/grants", timedelta(seconds=10)) as connection:
            with pytest.raises(GrantsRefusedError, match="table price_list does not exist"):
                await apply_grants(connection, declared)
            return await plan_grants(connection, declared)

    plan = asyncio.run(plan_and_apply())

    assert "grant what is declared on table price_list, once migrations have made it" in plan.changes
