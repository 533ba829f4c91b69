"""A consumer group's transaction in PostgreSQL: position, inbox and read models commit together or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from app.adapters.postgres.audit_export import PostgresExportChain
from app.adapters.postgres.consumer_errors import translated_errors
from app.adapters.postgres.event_reconciliation import PostgresReconciliationBook
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.parked_events import PostgresParkedEvents, set_tenant
from app.adapters.postgres.pool import Connection, Pool
from app.adapters.postgres.projections import PostgresOrderProjection
from app.adapters.postgres.reactions import PostgresReactionBook
from app.adapters.postgres.schema import ensure_schema
from app.messaging.inbox import HaltKind, InboxEntry, KeptHalt, Partition, PositionMoved
from app.messaging.parking import GroupState, ParkedName
from app.runtime.ids import Ids

_SQL = NamedBlocks("inbox")
_PARKED = NamedBlocks("parked_events")


class PostgresConsumerStore:
    """The stored positions of one group and its transactions.

    Args:
        pool: connections of the consumer's own role, open.
        group: the consumer group.
        ids: identifiers of what groups write.
    """

    def __init__(self, pool: Pool, group: str, ids: Ids) -> None:
        self._pool = pool
        self._group = group
        self._ids = ids

    async def check_schema(self) -> None:
        """Raise SchemaTooOldError when a migration that this code needs is missing."""
        with translated_errors():
            async with self._pool.connection() as connection:
                await ensure_schema(connection)

    async def positions(self, partitions: Sequence[Partition]) -> dict[Partition, int | None]:
        """Return the next offset of each partition, None for one never read.

        Raises:
            Unavailable: the database cannot be asked.
        """
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["positions"], _asked(self._group, partitions))
                stored = {Partition(row["topic"], row["kafka_partition"]): row["next_offset"] async for row in cursor}
        return {partition: stored.get(partition) for partition in partitions}

    async def due(self, partitions: Sequence[Partition], limit: int) -> list[ParkedName]:
        """Return parked events of these partitions whose next try is due.

        Raises:
            Unavailable: the database cannot be asked.
        """
        parameters = {**_asked(self._group, partitions), "limit": limit}
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_PARKED["due"], parameters)
                return [
                    ParkedName(Partition(row["topic"], row["kafka_partition"]), row["kafka_offset"], row["tenant_id"])
                    async for row in cursor
                ]

    async def state(self, window: timedelta) -> GroupState:
        """Measure what the group has set aside; `window` is that of its limit.

        Raises:
            Unavailable: the database cannot be asked.
        """
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_PARKED["state"], {"group": self._group, "window": window})
                row = await cursor.fetchone()
        return GroupState(**row) if row else GroupState()

    async def halts(self, partitions: Sequence[Partition]) -> dict[Partition, KeptHalt]:
        """Return which of these partitions wait for an operator.

        Raises:
            Unavailable: the database cannot be asked.
        """
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["halts"], _asked(self._group, partitions))
                return {
                    Partition(row["topic"], row["kafka_partition"]): KeptHalt(
                        HaltKind(row["kind"]), row["stored_offset"], row["reason"]
                    )
                    async for row in cursor
                }

    async def halt(self, partition: Partition, halt: KeptHalt) -> None:
        """Let a partition wait for an operator; one that waits already does so for its first reason.

        Raises:
            Unavailable: the database cannot be asked.
        """
        values = {"kind": halt.kind, "stored": halt.stored, "reason": halt.reason.replace("\x00", "")}
        await self._write("halt", {**_place(self._group, partition), **values})

    async def lift(self, partition: Partition) -> None:
        """Let a partition go on.

        Raises:
            Unavailable: the database cannot be asked.
        """
        await self._write("lift", _place(self._group, partition))

    async def _write(self, block: str, values: Mapping[str, object]) -> None:
        with translated_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_SQL[block], values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresConsumerUnitOfWork]:
        """Open a transaction that commits unless an exception leaves it."""
        with translated_errors():
            async with self._pool.connection() as connection, connection.transaction():
                yield PostgresConsumerUnitOfWork(connection, self._group, self._ids)


class PostgresConsumerUnitOfWork:
    """One transaction of one group."""

    def __init__(self, connection: Connection, group: str, ids: Ids) -> None:
        self._connection = connection
        self._group = group
        self._ids = ids
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

    @property
    def reactions(self) -> PostgresReactionBook:
        return PostgresReactionBook(self._connection, self._group, self._tenant(), self._ids)

    @property
    def export_chain(self) -> PostgresExportChain:
        return PostgresExportChain(self._connection, self._tenant())

    @property
    def reconciliation(self) -> PostgresReconciliationBook:
        return PostgresReconciliationBook(self._connection, self._tenant())

    @property
    def parked(self) -> PostgresParkedEvents:
        return PostgresParkedEvents(self._connection, self._group, self.act_for)

    async def act_for(self, tenant_id: str) -> None:
        await set_tenant(self._connection, tenant_id)
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
            **_place(self._group, partition),
            "expected": expected,
            "following": following,
        }
        moved = await self._connection.execute(_SQL["begin" if expected is None else "advance"], parameters)
        if moved.rowcount == 1:
            return
        asked = _asked(self._group, [partition])
        row = await (await self._connection.execute(_SQL["positions"], asked)).fetchone()
        raise PositionMoved(partition, row["next_offset"] if row else None)

    async def hold(self, partition: Partition) -> None:
        await self._connection.execute(_SQL["hold"], _place(self._group, partition))


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


def _place(group: str, partition: Partition) -> dict[str, object]:
    return {"group": group, "topic": partition.topic, "partition": partition.number}


def _asked(group: str, partitions: Sequence[Partition]) -> dict[str, object]:
    return {
        "group": group,
        "topics": [partition.topic for partition in partitions],
        "partitions": [partition.number for partition in partitions],
    }
