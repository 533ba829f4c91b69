"""Applies what is pending to a clone, and tells what each migration took: time, locks, and how long they were held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.adapters.postgres.backfills import PostgresBackfill, hold_backfills
from app.adapters.postgres.live_sessions import LiveSessions
from app.adapters.postgres.lock_watch import INTERVAL_SECONDS, LockWatch
from app.adapters.postgres.migrations import MigrationRefusedError, Migrator
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import open_session
from app.adapters.postgres.pool import Connection
from app.application.backfill_run import Batch, Limits, run
from app.application.migration_header import phase_of, read_header
from app.application.migration_rehearsal import Rehearsed, longest_gap_ms, table_locks
from app.runtime.clock import SystemClock
from app.runtime.shutdown import Shutdown

_SQL = NamedBlocks("lock_watch")
_TIMEOUT = timedelta(minutes=1)
_CLOCK = SystemClock()
_MILLISECONDS = 1000


@dataclass(frozen=True)
class Clone:
    """Where it is rehearsed.

    Args:
        url: postgresql://owner@host:port/database, without a password.
        password: the owner's.
        application_name: names its sessions; nothing else may have the name.
    """

    url: str
    password: str
    application_name: str


async def identity(connection: Connection) -> str:
    """Tell which database of which server a session is on."""
    row = await (await connection.execute(_SQL["server"])).fetchone()
    return str(row["identity"]) if row else ""


async def rehearse(clone: Clone, directory: Path, live: str, release_id: str, batch: int) -> dict[str, Any]:
    """Apply everything that is pending, phase by phase in the order of the files.

    Args:
        clone: it stays as the migrations leave it.
        directory: the bundle's migrations.
        live: identity of the database that is no clone.
        release_id: who applies them, in the clone's ledger.
        batch: most rows of a backfill's batch.

    Returns:
        `clone` with its size, and `migrations`, a `Rehearsed` each.

    Raises:
        MigrationRefusedError: it is the live database, or somebody works with it.
        OperationError: a migration fails on it.
    """
    async with open_session(clone.url, [clone.password], f"{clone.application_name}/look", _TIMEOUT) as connection:
        if await identity(connection) == live:
            raise MigrationRefusedError("--on names the live database; expected a clone of it")
        if working := await LiveSessions(connection).sessions():
            names = ", ".join(f"{each.name or 'a session without a name'} as {each.role}" for each in working)
            raise MigrationRefusedError(f"--on names a database that somebody works with: {names}")
        extent = await (await connection.execute(_SQL["extent"])).fetchone()
    done: list[Rehearsed] = []
    migrator = Migrator(clone.url, clone.password, directory, clone.application_name)
    while name := await asyncio.to_thread(migrator.next):
        done.append(await _one(clone, migrator, name, release_id, batch))
    return {"clone": dict(extent or {}), "migrations": done}


async def _one(clone: Clone, migrator: Migrator, name: str, release_id: str, batch: int) -> Rehearsed:
    parameters = {"conninfo": clone.url, "password": clone.password, "connect_timeout": 5}
    parameters["application_name"] = f"{clone.application_name}/watch"
    rows: Sequence[int] = ()
    durations: Sequence[float] = ()
    with LockWatch(parameters, clone.application_name, _CLOCK) as watch:
        if phase_of(name) == "backfill":
            rows, durations = await _backfill(clone, migrator, name, release_id, batch)
        else:
            begun = _CLOCK.monotonic()
            await asyncio.to_thread(migrator.apply, name, release_id)
            durations = [_CLOCK.monotonic() - begun]
    return Rehearsed(
        migration=name,
        duration_ms=round(_MILLISECONDS * max(durations, default=0.0)),
        batches=len(durations) if phase_of(name) == "backfill" else 0,
        rows_changed=sum(rows),
        locks=table_locks(watch.samples, INTERVAL_SECONDS),
        samples=len(watch.samples),
        longest_gap_ms=longest_gap_ms(sample.at for sample in watch.samples),
    )


async def _backfill(
    clone: Clone, migrator: Migrator, name: str, release_id: str, batch: int
) -> tuple[Sequence[int], Sequence[float]]:
    """Run one to its end without a pause; answer the rows and the seconds of each batch."""
    file = migrator.files()[name]
    budget = read_header(name, file.read_text(encoding="utf-8")).budget
    if budget is None:
        raise MigrationRefusedError(f"{name}.sql has no budget; expected -- budget: lock 200ms, duration 5s")
    async with open_session(clone.url, [clone.password], clone.application_name, _TIMEOUT) as connection:
        await hold_backfills(connection)
        backfill = _Timed(connection, migrator, file, budget, release_id)
        await backfill.begin(migrator.contents()[name], "rehearsal")
        await run(backfill, _Alone(), Limits(batch, 0), Shutdown())
        return backfill.rows, backfill.seconds


class _Timed(PostgresBackfill):
    """Keeps how long each batch took."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.rows, self.seconds = list[int](), list[float]()

    async def batch(self, most: int) -> Batch:
        begun = _CLOCK.monotonic()
        done = await super().batch(most)
        self.rows.append(done.changed)
        self.seconds.append(_CLOCK.monotonic() - begun)
        return done


class _Alone:
    """Nobody else has to keep up with a clone."""

    async def reason(self) -> str:
        return ""
