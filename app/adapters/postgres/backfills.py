"""Backfills on the database: batches with their place in one transaction each, and what they hold still for.

A backfill is one statement with two parameters: $1 is the key after which it goes on, as text and null at the beginning,
$2 the most rows of a batch. It answers one row: `changed`, and `last`, the last key that it looked at as text or null.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import AsyncRawCursor
from psycopg.rows import dict_row

from app.adapters.postgres.migrations import MigrationFailedError, Migrator
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.platform_health import PlatformHealth
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.standby_reads import PrimaryPositions, primary_position
from app.adapters.postgres.standbys import Standbys
from app.application.backfill_run import BackfillFailedError, Batch, BatchOverBudgetError
from app.application.migration_header import Budget
from app.runtime.clock import Clock

_SQL = NamedBlocks("backfills")
_MILLISECOND = timedelta(milliseconds=1)
_OVER_BUDGET = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


@dataclass(frozen=True)
class Progress:
    """How far a backfill has come; `after_key` is the last key of its last batch."""

    migration: str
    content_sha256: str
    state: str
    after_key: str | None
    passes: int
    batches: int
    rows_changed: int
    operator: str
    release_id: str
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


async def progress(connection: Connection) -> Sequence[Progress]:
    """Return how far each backfill has come that was begun; none before the table is there."""
    if not await has_table(connection, "migration_backfill"):
        return []
    rows = await (await connection.execute(_SQL["progress"])).fetchall()
    return [Progress(**row) for row in rows]


async def hold_backfills(connection: Connection) -> None:
    """Be the one who runs backfills until the session ends.

    Raises:
        BackfillFailedError: somebody else is; the message names the session.
    """
    row = await (await connection.execute(_SQL["take"])).fetchone()
    if row is not None and row["taken"]:
        return
    holder = await (await connection.execute(_SQL["holder"])).fetchone()
    name = f"{holder['application_name']} (backend {holder['pid']})" if holder else "a session that has just ended"
    raise BackfillFailedError(f"another run of backfills is under way: {name}")


class PostgresBackfill:
    """See `app.application.backfill_run.Backfill`.

    Args:
        connection: the schema owner's, outside of a transaction.
        migrator: enters it into the ledger.
        file: its statement.
        budget: of each batch.
        release_id: the release that runs it.
    """

    def __init__(self, connection: Connection, migrator: Migrator, file: Path, budget: Budget, release_id: str) -> None:
        self._connection, self._migrator, self._budget, self._release_id = connection, migrator, budget, release_id
        self.name = file.stem
        self._statement = file.read_text(encoding="utf-8")

    async def begin(self, content_sha256: str, operator: str) -> None:
        """Note who began it, or find who did.

        Raises:
            BackfillFailedError: it was begun with another content.
        """
        about = {"migration": self.name, "content_sha256": content_sha256}
        about |= {"operator": operator, "release_id": self._release_id}
        await self._connection.execute(_SQL["begin"], about)
        for each in await progress(self._connection):
            if each.migration == self.name and each.content_sha256 != content_sha256:
                raise BackfillFailedError(
                    f"{self.name}.sql was edited after {each.operator} began it with {each.release_id}: restore its content "
                    "and write a new migration instead"
                )

    async def batch(self, most: int) -> Batch:
        """See the port."""
        limits = {"lock_ms": self._budget.lock // _MILLISECOND, "statement_ms": self._budget.duration // _MILLISECOND}
        try:
            async with self._connection.transaction():
                await self._connection.execute(_SQL["limits"], limits)
                place = await (await self._connection.execute(_SQL["place"], {"migration": self.name})).fetchone()
                if place is None:
                    raise BackfillFailedError(f"{self.name}: nobody has begun it, or it is done")
                cursor = AsyncRawCursor(self._connection, row_factory=dict_row)
                row = await (await cursor.execute(self._statement, (place["after_key"], most))).fetchone()
                done = Batch(int(row["changed"]), row["last"]) if row else None
                if done is None:
                    raise BackfillFailedError(f"{self.name}.sql: expected one row with changed and last, found none")
                if done.after is not None:
                    if done.after == place["after_key"]:
                        raise BackfillFailedError(f"{self.name}.sql: stands still at {done.after}")
                    values = {"migration": self.name, "after": done.after, "changed": done.changed}
                    await self._connection.execute(_SQL["advance"], values)
                return done
        except _OVER_BUDGET as error:
            raise BatchOverBudgetError(str(error).strip().splitlines()[0]) from error
        except (psycopg.Error, KeyError, ValueError) as error:
            message = str(error).strip().splitlines()[0]
            raise BackfillFailedError(f"{self.name}.sql: a batch was rolled back: {message}") from error

    async def complete(self) -> None:
        """See the port."""
        try:
            await asyncio.to_thread(self._migrator.complete_backfill, self.name, self._release_id)
        except MigrationFailedError as error:
            await self._connection.execute(_SQL["start_over"], {"migration": self.name})
            raise BackfillFailedError(
                f"{error}: the next run starts over; who still writes rows of the old form behind it?"
            ) from error


class PostgresPace:
    """See `app.application.backfill_run.Pace`: standbys that are behind, and an outbox that is not emptied as fast as it fills.

    Args:
        connection: the schema owner's, to the primary.
        standbys: who else has to follow.
        clock: monotonic time.
        most_lag: seconds that a standby may be behind.
        most_backlog: events that may wait in the outbox.
    """

    def __init__(
        self, connection: Connection, standbys: Standbys, clock: Clock, most_lag: float, most_backlog: int
    ) -> None:
        self._connection, self._standbys, self._clock = connection, standbys, clock
        self._most_lag, self._most_backlog = most_lag, most_backlog
        self._positions = PrimaryPositions()
        self._looked_at: float | None = None

    async def reason(self) -> str:
        """See the port; looks at most once a second."""
        now = self._clock.monotonic()
        if self._looked_at is not None and now - self._looked_at < 1.0:
            return ""
        backlog = await PlatformHealth(self._connection).outbox_backlog()
        if backlog is not None and backlog > self._most_backlog:
            return f"{backlog} events wait in the outbox"
        self._positions.note(now, await primary_position(self._connection))
        for server, replayed in (await self._standbys.replayed()).items():
            if replayed is None:
                return f"standby {server} does not answer"
            behind = self._positions.staleness(replayed, self._clock.monotonic())
            if behind is None or behind > self._most_lag:
                return f"standby {server} is behind"
        self._looked_at = now
        return ""
