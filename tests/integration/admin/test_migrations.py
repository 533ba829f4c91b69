"""Expand migrations on a database of their own: once each, whole or not at all, and never what was not asked for."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from app.adapters.postgres.grants import GrantsPlan, GrantsRefusedError, apply_grants, plan_grants
from app.adapters.postgres.live_state import LiveDatabase
from app.adapters.postgres.migration_rehearsal import Clone, rehearse
from app.adapters.postgres.migrations import (
    MigrationBusyError,
    MigrationFailedError,
    MigrationRefusedError,
    Migrator,
)
from app.adapters.postgres.operator_session import open_session
from app.contracts.loader import load_database_grants
from tests.support.migration_database import (
    BACKFILL_OF_NOTHING,
    CONTRACT_OF_FLAGS,
    MIGRATIONS,
    add,
    folder,
    host,
    migrator,
    password,
    tables,
    url,
)

__all__ = ["folder", "host", "migrator", "password", "url"]


def test_from_empty_everything_is_applied_once(migrator: Migrator) -> None:
    names = tuple(path.stem for path in sorted((MIGRATIONS / "verify").glob("*.sql")) if "_expand_" in path.name)

    assert migrator.plan().pending == names
    assert migrator.expand("release-1").migrations == names
    assert migrator.plan().pending == ()
    assert migrator.expand("release-1").migrations == ()


def test_the_described_schema_is_what_migrations_make(url: str, password: str, tmp_path: Path) -> None:
    """Of all phases; schema.json is written anew by copying what this test has seen."""
    asyncio.run(rehearse(Clone(url, password, "rehearsal/tests"), MIGRATIONS, "another", "release-1", 500))

    async def describe() -> dict[str, dict[str, str]]:
        async with open_session(url, [password], "tests/schema", timedelta(seconds=10)) as connection:
            database = LiveDatabase(connection)
            return {block: await database.items(block) for block in ("schema", "indexes")}

    seen = tmp_path / "schema.json"
    seen.write_text(json.dumps(asyncio.run(describe()), indent=1, sort_keys=True) + "\n")

    assert seen.read_text() == (MIGRATIONS / "schema.json").read_text(), f"cp {seen} migrations/schema.json"


def test_an_edited_applied_file_is_refused_by_its_name(migrator: Migrator, folder: Path) -> None:
    migrator.expand("release-1")
    path = folder / "0003_expand_quote.sql"
    path.write_text(path.read_text() + "-- edited\n")

    with pytest.raises(MigrationRefusedError, match=r"0003_expand_quote.sql was edited after it was applied"):
        migrator.expand("release-2")


def test_a_file_that_comes_before_an_applied_one_is_refused(migrator: Migrator, folder: Path) -> None:
    migrator.expand("release-1")
    add(folder, "0002_expand_abc", "CREATE TABLE cpq.late (id integer);")

    with pytest.raises(
        MigrationRefusedError, match=r"0002_expand_abc.sql is missing from the database, and comes before 0"
    ):
        migrator.plan()


def test_the_expand_job_runs_no_backfill_and_no_contract(
    migrator: Migrator, folder: Path, url: str, password: str
) -> None:
    add(folder, "0900_backfill_nothing", BACKFILL_OF_NOTHING)
    add(folder, "0901_contract_drop_flags", CONTRACT_OF_FLAGS)

    migrator.expand("release-1")

    assert "feature_flag" in tables(url, password)
    plan = migrator.plan()
    assert (plan.backfills, plan.contracts) == (("0900_backfill_nothing",), ("0901_contract_drop_flags",))


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


def test_an_index_is_built_beside_traffic_and_one_that_was_left_unfinished_anew(
    migrator: Migrator, folder: Path, url: str, password: str
) -> None:
    migrator.expand("release-1")
    build = """-- transactional: false
        SET lock_timeout = '1s';
        DROP INDEX CONCURRENTLY IF EXISTS cpq.tenant_by_name;
        CREATE INDEX CONCURRENTLY tenant_by_name ON cpq.tenant (display_name);
    """
    add(
        folder, "0900_expand_index", build, verify="SELECT 1 / count(*) FROM pg_class WHERE relname = 'tenant_by_name';"
    )

    with psycopg.connect(url, password=password) as traffic:
        traffic.execute("INSERT INTO cpq.tenant VALUES ('building', 'Building', 'EUR')")
        # The build waits for this transaction to end and is given up: what it leaves behind is no index.
        with pytest.raises(MigrationFailedError, match="waited too long for a lock"):
            migrator.expand("release-1")
        assert migrator.plan().pending == ("0900_expand_index",)
    assert migrator.expand("release-1").migrations == ("0900_expand_index",)

    with psycopg.connect(url, password=password) as connection:
        found = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'cpq.tenant_by_name'::regclass")
        assert found.fetchall() == [(True,)]


def test_the_lock_row_of_a_killed_run_is_removed(migrator: Migrator, folder: Path, url: str, password: str) -> None:
    migrator.expand("release-1")
    with psycopg.connect(url, password=password, autocommit=True) as connection:
        connection.execute("INSERT INTO cpq.yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4711)")
    add(folder, "0900_expand_next", "CREATE TABLE cpq.next_one (id integer);")

    done = migrator.expand("release-2")

    assert done.migrations == ("0900_expand_next",)
    assert done.broke_stale_lock


def test_what_was_entered_by_hand_is_named(migrator: Migrator, url: str, password: str) -> None:
    migrator.expand("release-1")
    with psycopg.connect(url, password=password, autocommit=True) as connection:
        connection.execute("INSERT INTO cpq.migration_ledger VALUES ('0900_expand_by_hand', 'none', 'nobody')")

    with pytest.raises(
        MigrationRefusedError, match=r"0900_expand_by_hand was entered by hand: it is in cpq\.migration_ledger"
    ):
        migrator.plan()


def test_one_that_the_database_lost_is_named_once(migrator: Migrator, url: str, password: str) -> None:
    migrator.expand("release-1")
    with psycopg.connect(url, password=password, autocommit=True) as connection:
        connection.execute("DELETE FROM cpq.migration_ledger WHERE migration = '0015_expand_consumers'")

    with pytest.raises(MigrationRefusedError) as refused:
        migrator.plan()

    [problem] = refused.value.problems
    assert problem.startswith("0015_expand_consumers.sql is missing from the database")


def test_a_change_by_hand_is_seen_beside_what_migrations_make(migrator: Migrator, url: str, password: str) -> None:
    migrator.expand("release-1")
    with psycopg.connect(url, password=password, autocommit=True) as connection:
        connection.execute("ALTER TABLE cpq.tenant ADD COLUMN note text")

    async def describe() -> dict[str, str]:
        async with open_session(url, [password], "tests/schema", timedelta(seconds=10)) as connection:
            return await LiveDatabase(connection).items("schema")

    declared = json.loads((MIGRATIONS / "schema.json").read_text())["schema"]

    assert sorted(asyncio.run(describe()).items() - declared.items()) == [("column tenant.note", "text")]


def test_an_expand_migration_waits_for_the_backfill_that_it_needs(migrator: Migrator, folder: Path) -> None:
    add(folder, "0900_backfill_nothing", BACKFILL_OF_NOTHING)
    add(folder, "0901_expand_tight", "-- budget: lock 500ms, duration 5s\n-- needs: 0900_backfill_nothing\nSELECT 1;")

    with pytest.raises(
        MigrationRefusedError, match=r"0901_expand_tight\.sql needs 0900_backfill_nothing, which is not done"
    ):
        migrator.expand("release-1")


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
        async with open_session(url, [password], "tests/grants", timedelta(seconds=10)) as connection:
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
        async with open_session(url, [password], "tests/grants", timedelta(seconds=10)) as connection:
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
        async with open_session(url, [password], "tests/grants", timedelta(seconds=10)) as connection:
            with pytest.raises(GrantsRefusedError, match="table price_list does not exist"):
                await apply_grants(connection, declared)
            return await plan_grants(connection, declared)

    plan = asyncio.run(plan_and_apply())

    assert "grant what is declared on table price_list, once migrations have made it" in plan.changes
