"""A consumer group's transaction in PostgreSQL: position, inbox and read models commit together or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

import psycopg
from psycopg import errors

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import PASSING_ERRORS, Connection, Pool
from app.adapters.postgres.projections import PostgresOrderProjection
from app.adapters.postgres.schema import ensure_schema
from app.messaging.inbox import InboxEntry, Partition, PositionMoved
from app.messaging.retry import Poison, Unavailable

_SQL = NamedBlocks("inbox")
_DEPENDENCY = "postgresql"


@contextmanager
def _translated_errors() -> Iterator[None]:
    """What passes is `Unavailable`; what the database refuses about the data is `Poison`; the rest is a defect."""
    try:
        yield
    except PASSING_ERRORS as error:
        raise Unavailable(_DEPENDENCY, _first_line(error)) from error
    # Row-level security answers InsufficientPrivilege when an order of another tenant has the same id.
    except (psycopg.DataError, psycopg.IntegrityError, errors.InsufficientPrivilege) as error:
        raise Poison(f"{type(error).__name__}: {_first_line(error)}") from error


class PostgresConsumerStore:
    """The stored positions of one group and its transactions.

    Args:
        pool: connections of the consumer's own role, open.
        group: the consumer group.
    """

    def __init__(self, pool: Pool, group: str) -> None:
        self._pool = pool
        self._group = group

    async def check_schema(self) -> None:
        """Raise SchemaTooOldError when a migration that this code needs is missing."""
        with _translated_errors():
            async with self._pool.connection() as connection:
                await ensure_schema(connection)

    async def positions(self, partitions: Sequence[Partition]) -> dict[Partition, int | None]:
        """Return the next offset of each partition, None for one never read.

        Raises:
            Unavailable: the database cannot be asked.
        """
        parameters = {
            "group": self._group,
            "topics": [partition.topic for partition in partitions],
            "partitions": [partition.number for partition in partitions],
        }
        with _translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["positions"], parameters)
                stored = {Partition(row["topic"], row["kafka_partition"]): row["next_offset"] async for row in cursor}
        return {partition: stored.get(partition) for partition in partitions}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresProjectionUnitOfWork]:
        """Open a transaction that commits unless an exception leaves it."""
        with _translated_errors():
            async with self._pool.connection() as connection, connection.transaction():
                yield PostgresProjectionUnitOfWork(connection, self._group)


class PostgresProjectionUnitOfWork:
    """One transaction of one group."""

    def __init__(self, connection: Connection, group: str) -> None:
        self._connection = connection
        self._group = group
        self._tenant_id: str | None = None

    @property
    def positions(self) -> PostgresPositions:
        return PostgresPositions(self._connection, self._group)

    @property
    def inbox(self) -> PostgresInbox:
        return PostgresInbox(self._connection, self._group, self._tenant())

    @property
    def order_projection(self) -> PostgresOrderProjection:
        return PostgresOrderProjection(self._connection, self._tenant())

    async def act_for(self, tenant_id: str) -> None:
        await self._connection.execute(_SQL["act_for"], {"tenant_id": tenant_id})
        self._tenant_id = tenant_id

    def _tenant(self) -> str:
        if self._tenant_id is None:
            raise RuntimeError("act_for comes before any access to a tenant's rows")
        return self._tenant_id


class PostgresPositions:
    """Compare-and-set of a group's next offsets."""

    def __init__(self, connection: Connection, group: str) -> None:
        self._connection = connection
        self._group = group

    async def advance(self, partition: Partition, expected: int | None, following: int) -> None:
        parameters: Mapping[str, object] = {
            "group": self._group,
            "topic": partition.topic,
            "partition": partition.number,
            "expected": expected,
            "following": following,
        }
        moved = await self._connection.execute(_SQL["begin" if expected is None else "advance"], parameters)
        if moved.rowcount == 1:
            return
        asked = {"group": self._group, "topics": [partition.topic], "partitions": [partition.number]}
        row = await (await self._connection.execute(_SQL["positions"], asked)).fetchone()
        raise PositionMoved(partition, row["next_offset"] if row else None)


class PostgresInbox:
    """The events a group has seen, of one tenant."""

    def __init__(self, connection: Connection, group: str, tenant_id: str) -> None:
        self._connection = connection
        self._group = group
        self._tenant_id = tenant_id

    async def add(self, entries: Sequence[InboxEntry]) -> set[UUID]:
        columns = {
            "group": self._group,
            "tenant_id": self._tenant_id,
            "event_ids": [entry.event_id for entry in entries],
            "topics": [entry.partition.topic for entry in entries],
            "partitions": [entry.partition.number for entry in entries],
            "offsets": [entry.offset for entry in entries],
        }
        cursor = await self._connection.execute(_SQL["add"], columns)
        return {row["event_id"] async for row in cursor}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
