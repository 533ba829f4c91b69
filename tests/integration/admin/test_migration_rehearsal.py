"""Migrations on a clone: what each takes is seen from another session, and one beyond its budget is named."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.adapters.postgres.migration_rehearsal import Clone, identity, rehearse
from app.adapters.postgres.migrations import MigrationRefusedError, Migrator
from app.adapters.postgres.operator_session import open_session
from app.application.migration_header import Budget
from app.application.migration_rehearsal import Rehearsed, over_budget
from tests.support.migration_database import add, folder, host, migrator, password, url

__all__ = ["folder", "host", "migrator", "password", "url"]

BUDGET = Budget(timedelta(milliseconds=400), timedelta(seconds=5))
FILLS = """-- budget: lock 500ms, duration 5s
WITH batch AS MATERIALIZED (
    SELECT tenant_id FROM cpq.tenant WHERE tenant_id > coalesce($1, '') ORDER BY tenant_id LIMIT $2::integer
), changed AS (
    UPDATE cpq.tenant AS t SET note = t.display_name FROM batch AS b WHERE t.tenant_id = b.tenant_id AND t.note IS NULL RETURNING 1
)
SELECT (SELECT count(*) FROM changed) AS changed, (SELECT max(tenant_id) FROM batch) AS last;
"""
TAKES_AWAY = """-- budget: lock 500ms, duration 5s
-- replaced-by: 0900_expand_note
-- needs: 0901_backfill_note
-- removes: column cpq.tenant.display_name
-- last-needed-by: generation 1
ALTER TABLE cpq.tenant DROP COLUMN display_name;
"""


@pytest.fixture
def clone(migrator: Migrator, url: str) -> Clone:
    """A database with the platform's schema and some rows, which nobody works with."""
    migrator.expand("release-1")
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO cpq.tenant SELECT 'tenant-' || n, 'Tenant', 'EUR' FROM generate_series(1, 25) AS n"
        )
    return Clone(url, "none", "rehearsal/tests")


def rehearsed(clone: Clone, folder: Path, live: str = "another") -> dict[str, Any]:
    return asyncio.run(rehearse(clone, folder, live, "release-2", 10))


def only(clone: Clone, folder: Path) -> Rehearsed:
    (one,) = rehearsed(clone, folder)["migrations"]
    assert isinstance(one, Rehearsed)
    return one


def test_every_phase_is_rehearsed_in_the_order_of_the_files(clone: Clone, folder: Path, migrator: Migrator) -> None:
    add(folder, "0900_expand_note", "ALTER TABLE cpq.tenant ADD COLUMN note text;")
    add(folder, "0901_backfill_note", FILLS)
    add(folder, "0902_contract_name", TAKES_AWAY)

    seen = rehearsed(clone, folder)

    expand, backfill, contract = seen["migrations"]
    assert [each.migration for each in seen["migrations"]] == [
        "0900_expand_note",
        "0901_backfill_note",
        "0902_contract_name",
    ]
    assert (backfill.rows_changed, backfill.batches) == (25, 4)
    assert all(over_budget(each, BUDGET) == [] for each in (expand, backfill, contract))
    assert migrator.next() is None
    assert seen["clone"]["bytes"] > 0


def test_a_lock_that_is_held_beyond_its_budget_is_named_with_its_table_and_mode(clone: Clone, folder: Path) -> None:
    """The lint finds nothing: the statement takes its lock for a moment, and the transaction keeps it."""
    add(folder, "0900_expand_slow", "ALTER TABLE cpq.tenant ADD COLUMN note text;\nSELECT pg_sleep(0.8);")

    done = only(clone, folder)

    (lock,) = [each for each in done.locks if each.table == "tenant"]
    assert lock.strongest == "AccessExclusiveLock"
    assert 700 <= lock.blocking_ms <= 1600
    problem = f"0900_expand_slow: held AccessExclusiveLock on tenant for {lock.blocking_ms} ms, its budget is 400 ms"
    assert problem in over_budget(done, BUDGET)


def test_what_only_adds_a_table_locks_nobody_out(clone: Clone, folder: Path) -> None:
    add(folder, "0900_expand_table", "CREATE TABLE cpq.probe (id integer);\nSELECT pg_sleep(0.8);")

    assert [each for each in only(clone, folder).locks if each.blocking_ms] == []


def test_one_that_runs_beyond_its_budget_is_named(clone: Clone, folder: Path) -> None:
    add(folder, "0900_expand_long", "SELECT pg_sleep(0.6);")

    done = only(clone, folder)

    short = Budget(timedelta(milliseconds=400), timedelta(milliseconds=500))
    assert f"0900_expand_long: ran for {done.duration_ms} ms, its budget is 500 ms" in over_budget(done, short)


def test_the_live_database_is_no_clone(clone: Clone, folder: Path, migrator: Migrator) -> None:
    add(folder, "0900_expand_note", "ALTER TABLE cpq.tenant ADD COLUMN note text;")

    async def here() -> str:
        async with open_session(clone.url, ["none"], "tests/identity", timedelta(seconds=5)) as connection:
            return await identity(connection)

    with pytest.raises(MigrationRefusedError, match="--on names the live database; expected a clone of it"):
        rehearsed(clone, folder, asyncio.run(here()))
    assert migrator.plan().pending == ("0900_expand_note",)


def test_a_database_that_somebody_works_with_is_no_clone(clone: Clone, folder: Path, migrator: Migrator) -> None:
    add(folder, "0900_expand_note", "ALTER TABLE cpq.tenant ADD COLUMN note text;")

    with (
        psycopg.connect(clone.url.replace("cpq_owner", "cpq_api"), application_name="api-1/release-1"),
        pytest.raises(MigrationRefusedError, match="somebody works with: api-1/release-1 as cpq_api"),
    ):
        rehearsed(clone, folder)
    assert migrator.plan().pending == ("0900_expand_note",)
