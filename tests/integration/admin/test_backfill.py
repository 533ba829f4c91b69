"""Backfills on a real database: killed at every batch and resumed, throttled, verified, and nothing that needs one before it is done."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from app.adapters.postgres.backfills import PostgresBackfill, PostgresPace, Progress, hold_backfills, progress
from app.adapters.postgres.migrations import MigrationRefusedError, Migrator
from app.adapters.postgres.operator_session import open_session
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.standbys import Standbys
from app.application.backfill_run import BackfillEnd, BackfillFailedError, Limits, run
from app.application.migration_header import Budget
from app.runtime.clock import SystemClock
from app.runtime.shutdown import Shutdown
from tests.support.migration_database import PORT, add, folder, host, migrator, on_standby, password, standby, url
from tests.support.released_host import ReleasedHost

__all__ = ["folder", "host", "migrator", "password", "standby", "url"]

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[3]
EXPAND = "0900_expand_upper_name"
BACKFILL = "0901_backfill_upper_name"
CONTRACT = "0902_contract_display_name"
ROWS = 50
BATCH = 10
BATCHES = ROWS // BATCH
STATEMENT = """-- budget: lock 500ms, duration 5s
WITH batch AS MATERIALIZED (
    SELECT tenant_id FROM cpq.tenant WHERE tenant_id > coalesce($1, '') ORDER BY tenant_id LIMIT $2::integer
), changed AS (
    UPDATE cpq.tenant AS t SET upper_name = upper(t.display_name)
    FROM batch AS b WHERE t.tenant_id = b.tenant_id AND t.upper_name IS NULL
    RETURNING 1
)
SELECT (SELECT count(*) FROM changed) AS changed, (SELECT max(tenant_id) FROM batch) AS last;
"""
VERIFY = """
DO $$
DECLARE
    remaining bigint;
BEGIN
    SELECT count(*) INTO remaining FROM cpq.tenant WHERE upper_name IS NULL;
    IF remaining > 0 THEN
        RAISE EXCEPTION '0901_backfill_upper_name: % rows are left', remaining;
    END IF;
END
$$;
"""
TAKES_AWAY = f"""-- budget: lock 500ms, duration 5s
-- replaced-by: {EXPAND}
-- needs: {BACKFILL}
-- removes: column cpq.tenant.display_name
-- last-needed-by: generation 1
ALTER TABLE cpq.tenant DROP COLUMN display_name;
"""
# What the command does, in a process that can be killed.
PROGRAM = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from app.adapters.postgres.backfills import PostgresBackfill, hold_backfills
from app.adapters.postgres.migrations import Migrator
from app.adapters.postgres.operator_session import open_session
from app.application.backfill_run import Limits, run
from app.application.migration_header import Budget
from app.runtime.shutdown import Shutdown

url, folder, name = sys.argv[1:]

class AtOnce:
    async def reason(self):
        return ""

class Told(PostgresBackfill):
    async def batch(self, most):
        done = await super().batch(most)
        print("batch", flush=True)
        return done

async def main():
    stop = Shutdown.on_signals()
    migrator = Migrator(url, "none", Path(folder), "tests/backfill")
    async with open_session(url, ["none"], "tests/backfill", timedelta(seconds=10)) as connection:
        await hold_backfills(connection)
        budget = Budget(timedelta(milliseconds=500), timedelta(seconds=5))
        backfill = Told(connection, migrator, migrator.files()[name], budget, "release-1")
        await backfill.begin(migrator.contents()[name], "killed")
        end = await run(backfill, AtOnce(), Limits(10, 0.2), stop)
        print("done" if end.is_done else "stopped", flush=True)

asyncio.run(main())
"""


class AtOnce:
    async def reason(self) -> str:
        return ""


@pytest.fixture
def begun(migrator: Migrator, folder: Path, url: str) -> Path:
    """Fifty tenants that lack what a migration made room for."""
    add(folder, EXPAND, "ALTER TABLE cpq.tenant ADD COLUMN upper_name text;")
    add(folder, BACKFILL, STATEMENT, verify=VERIFY)
    add(folder, CONTRACT, TAKES_AWAY)
    migrator.expand("release-1")
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO cpq.tenant SELECT 'tenant-' || lpad(n::text, 3, '0'), 'Tenant ' || n, 'EUR'"
            " FROM generate_series(1, %s) AS n",
            [ROWS],
        )
    return folder


def with_session(url: str, act: Callable[[Connection], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with open_session(url, ["none"], "tests/backfill", timedelta(seconds=10)) as connection:
            return await act(connection)

    return asyncio.run(inside())


def run_here(url: str, migrator: Migrator, *, batch: int = BATCH, budget: Budget | None = None) -> BackfillEnd:
    async def inside(connection: Connection) -> BackfillEnd:
        await hold_backfills(connection)
        allowed = budget or Budget(timedelta(milliseconds=500), timedelta(seconds=5))
        backfill = PostgresBackfill(connection, migrator, migrator.files()[BACKFILL], allowed, "release-1")
        await backfill.begin(migrator.contents()[BACKFILL], "ana")
        return await run(backfill, AtOnce(), Limits(batch, 0), Shutdown())

    return with_session(url, inside)


def stands(url: str) -> Progress:
    (found,) = with_session(url, progress)
    return found


def filled(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM cpq.tenant WHERE upper_name = upper(display_name)").fetchone()
        assert row
        return int(row[0])


def start(url: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, url, str(folder), BACKFILL]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )


def lines_until(process: subprocess.Popen[str], batches: int) -> None:
    assert process.stdout
    for _ in range(batches):
        assert process.stdout.readline() == "batch\n"


def killed_after(url: str, folder: Path, batches: int) -> None:
    with start(url, folder) as process:
        try:
            lines_until(process, batches)
        finally:
            process.kill()
    let_go(url)


def let_go(url: str) -> None:
    """Wait until the server has noticed that a killed runner is gone."""
    for _ in range(50):
        with psycopg.connect(url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 20261 AND objid = 2"
            ).fetchone()
            if row == (0,):
                return
        time.sleep(0.1)
    pytest.fail("the lock of a killed runner is still held")


@pytest.mark.parametrize("batches", range(1, BATCHES + 1))
def test_one_that_is_killed_after_any_batch_goes_on_from_there(
    begun: Path, migrator: Migrator, url: str, batches: int
) -> None:
    killed_after(url, begun, batches)

    there = stands(url)
    assert (there.state, there.batches, there.rows_changed, there.after_key) == (
        "running", batches, batches * BATCH, f"tenant-{batches * BATCH:03}",
    )  # fmt: skip
    assert filled(url) == batches * BATCH

    end = run_here(url, migrator)

    assert (end.is_done, end.batches, end.rows_changed) == (True, BATCHES - batches, ROWS - batches * BATCH)
    assert (stands(url).state, stands(url).operator, filled(url)) == ("done", "killed", ROWS)
    assert migrator.plan().backfills == ()


def test_it_stops_between_two_batches_when_it_is_told_to(begun: Path, migrator: Migrator, url: str) -> None:
    with start(url, begun) as process:
        lines_until(process, 2)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=30)

    assert told.splitlines()[-1] == "stopped"
    assert process.returncode == 0
    there = stands(url)
    assert there.rows_changed == there.batches * BATCH == filled(url)
    assert run_here(url, migrator).is_done


@pytest.mark.usefixtures("begun")
def test_what_needs_it_is_refused_by_its_name_until_it_is_done(migrator: Migrator, url: str) -> None:
    with pytest.raises(MigrationRefusedError, match=rf"{CONTRACT}\.sql needs {BACKFILL}, which is not done"):
        migrator.contract([CONTRACT], "release-2")

    assert run_here(url, migrator).is_done
    assert run_here_again_is_refused(url, migrator)
    assert migrator.contract([CONTRACT], "release-2").migrations == (CONTRACT,)
    assert migrator.contract([CONTRACT], "release-2").migrations == ()


def run_here_again_is_refused(url: str, migrator: Migrator) -> bool:
    """A backfill that is done has no next batch: nothing is entered a second time."""
    with pytest.raises(BackfillFailedError, match="or it is done"):
        run_here(url, migrator)
    return True


def test_rows_that_were_written_behind_it_are_found_and_taken_by_another_pass(
    begun: Path, migrator: Migrator, url: str
) -> None:
    killed_after(url, begun, 2)
    with psycopg.connect(url) as old_code:
        old_code.execute("INSERT INTO cpq.tenant VALUES ('a-tenant', 'Behind', 'EUR')")

    with pytest.raises(BackfillFailedError, match=rf"{BACKFILL}\.sql is not done: {BACKFILL}: 1 rows are left"):
        run_here(url, migrator)
    assert migrator.plan().backfills == (BACKFILL,)
    end = run_here(url, migrator)

    assert (end.is_done, end.rows_changed, stands(url).passes) == (True, 1, 2)


@pytest.mark.usefixtures("begun")
def test_a_batch_over_its_budget_is_rolled_back_and_a_smaller_one_tried(migrator: Migrator, url: str) -> None:
    """Somebody holds a row of the first ten; a batch that stops before it gets through, and then nobody holds it any more."""
    with psycopg.connect(url) as other:
        other.execute("SELECT FROM cpq.tenant WHERE tenant_id = 'tenant-008' FOR UPDATE")
        with pytest.raises(BackfillFailedError, match="batches in a row went over their budget") as failed:
            run_here(url, migrator, budget=Budget(timedelta(milliseconds=50), timedelta(seconds=1)))

    assert "lock timeout" in str(failed.value)
    assert filled(url) == stands(url).rows_changed == 7
    assert run_here(url, migrator).rows_changed == ROWS - 7


def test_one_that_was_edited_after_it_was_begun_is_refused(begun: Path, migrator: Migrator, url: str) -> None:
    killed_after(url, begun, 1)
    path = begun / f"{BACKFILL}.sql"
    path.write_text(path.read_text() + "-- edited\n")

    with pytest.raises(BackfillFailedError, match=rf"{BACKFILL}\.sql was edited after killed began it"):
        run_here(url, migrator)


@pytest.mark.usefixtures("begun")
def test_a_second_runner_is_refused_and_told_of_the_first(url: str) -> None:
    async def twice(connection: Connection) -> None:
        await hold_backfills(connection)
        async with open_session(url, ["none"], "tests/second", timedelta(seconds=10)) as second:
            await hold_backfills(second)

    with pytest.raises(BackfillFailedError, match="another run of backfills is under way: tests/backfill"):
        with_session(url, twice)


@pytest.mark.usefixtures("begun")
def test_it_holds_still_while_the_outbox_or_a_standby_is_behind(url: str) -> None:
    one = Standbys(url, ["none"], "tests/pace", timedelta(seconds=5))
    # Nobody listens at the second address.
    address, _, database = url.partition("@")[2].partition("/")
    host_name, _, port = address.partition(":")
    both = f"postgresql://cpq_owner@{host_name}:{port},{host_name}:1/{database}"
    silent = Standbys(both, ["none"], "tests/pace", timedelta(seconds=5))

    async def reasons(connection: Connection) -> list[str]:
        clock = SystemClock()
        return [
            await PostgresPace(connection, one, clock, 5, 0).reason(),
            await PostgresPace(connection, one, clock, 5, -1).reason(),
            await PostgresPace(connection, silent, clock, 5, 0).reason(),
        ]

    assert with_session(url, reasons) == [
        "", "0 events wait in the outbox", f"standby {host_name}:1 does not answer",
    ]  # fmt: skip


@pytest.mark.usefixtures("begun")
def test_it_goes_on_when_a_standby_has_caught_up(host: ReleasedHost, url: str, standby: str) -> None:
    both = Standbys(standby, ["none"], "tests/pace", timedelta(seconds=5))
    behind = f"standby {host.address}:{PORT + 1} is behind"

    async def reason_becomes(pace: PostgresPace, wanted: str) -> None:
        for _ in range(30):
            if await pace.reason() == wanted:
                return
            await asyncio.sleep(0.5)
        pytest.fail(f"the reason to hold still is not {wanted!r}")

    async def watch(connection: Connection) -> None:
        pace = PostgresPace(connection, both, SystemClock(), 2, 1000)
        await reason_becomes(pace, "")
        await asyncio.to_thread(on_standby, host, "SELECT pg_wal_replay_pause()")
        await connection.execute("UPDATE cpq.tenant SET display_name = display_name")
        await reason_becomes(pace, behind)
        await asyncio.to_thread(on_standby, host, "SELECT pg_wal_replay_resume()")
        await reason_becomes(pace, "")

    with_session(url, watch)
