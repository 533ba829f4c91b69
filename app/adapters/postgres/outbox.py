"""The outbox in PostgreSQL: events added by a unit of work, moved by the relay, and the wake-up between the two.

Knows envelopes and nothing of what they mean: the relay, which must not know the business, is built on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import PASSING_ERRORS, Connection, Pool, RoleConnection, first_line
from app.adapters.postgres.schema import ensure_schema
from app.messaging.envelope import Envelope
from app.messaging.outbox import Backlog, Leases, PendingEvent, Published, Rejected, Settled, Settlement, Undelivered
from app.messaging.retry import Backoff, Unavailable
from app.runtime.logging import get_logger

_SQL = NamedBlocks("outbox")
_DEPENDENCY = "postgresql"
_log = get_logger(__name__)


class PostgresOutboxStore:
    """Adds events to the transaction of the connection it is given."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Add events and the relay's wake-up, in one round trip.

        Raises:
            psycopg.errors.UniqueViolation: another event has the same aggregate and sequence; the transaction is lost.
        """
        if not envelopes:
            return
        columns = {
            "event_ids": [envelope.event_id for envelope in envelopes],
            "tenant_ids": [envelope.tenant_id for envelope in envelopes],
            "aggregate_types": [envelope.aggregate_type for envelope in envelopes],
            "aggregate_ids": [envelope.aggregate_id for envelope in envelopes],
            "aggregate_seqs": [envelope.aggregate_seq for envelope in envelopes],
            "event_types": [envelope.event_type for envelope in envelopes],
            "topics": [envelope.topic for envelope in envelopes],
            "partition_keys": [envelope.partition_key for envelope in envelopes],
            "payloads": [envelope.payload for envelope in envelopes],
            "traceparents": [envelope.traceparent for envelope in envelopes],
            "shards": [envelope.shard for envelope in envelopes],
            "occurred_ats": [envelope.occurred_at for envelope in envelopes],
        }
        async with self._connection.pipeline():
            await self._connection.execute(_SQL["append"], columns)
            await self._connection.execute(_SQL["wake"])


class PostgresRelayStore:
    """The relay's side of the outbox; see `app.messaging.outbox.RelayStore`.

    Args:
        pool: connections of the relay's own role, open.
        owner: the instance's name; two processes must not share it, and if they do the later one wins each shard.
    """

    def __init__(self, pool: Pool, owner: str) -> None:
        self._pool = pool
        self._owner = owner

    async def check_schema(self) -> None:
        """Raise SchemaTooOldError when a migration that this code needs is missing."""
        async with self._connection() as connection:
            await ensure_schema(connection)

    async def take_over(self) -> Leases:
        async with self._connection() as connection:
            return await self._leases(connection, "take_over", {"owner": self._owner})

    async def hold(self, leases: Leases, duration: timedelta) -> Leases:
        async with self._connection() as connection, connection.transaction():
            us = {"owner": self._owner, "duration": duration}
            await connection.execute(_SQL["enlist"], us)
            renewed = sorted((await self._leases(connection, "renew", {**_columns(leases), **us})).items())
            share = await self._share(connection)
            held, excess = dict(renewed[:share]), dict(renewed[share:])
            if excess:
                await connection.execute(_SQL["release"], {**_columns(excess), **us})
            if len(held) < share:
                free = {"shards": list(held), "wanted": share - len(held), **us}
                held |= await self._leases(connection, "acquire", free)
            return held

    async def release(self, leases: Leases) -> None:
        async with self._connection() as connection, connection.transaction():
            await connection.execute(_SQL["release"], {**_columns(leases), "owner": self._owner})
            await connection.execute(_SQL["resign"], {"owner": self._owner})

    async def judge_anew(self, leases: Leases, contract: str) -> int:
        async with self._connection() as connection:
            cursor = await connection.execute(_SQL["judge_anew"], {"shards": list(leases), "contract": contract})
            return cursor.rowcount

    async def claim(self, shards: Sequence[int], limit: int) -> list[PendingEvent]:
        async with self._connection() as connection:
            cursor = await connection.execute(_SQL["claim"], {"shards": list(shards), "batch": limit})
            return [PendingEvent(attempts=row.pop("attempts"), envelope=Envelope(**row)) async for row in cursor]

    async def settle(self, leases: Leases, settlements: Sequence[Settlement]) -> Settled:
        async with self._connection() as connection, connection.transaction():
            cursor = await connection.execute(_SQL["lock_leases"], {**_columns(leases), "owner": self._owner})
            ours = {row["shard"] async for row in cursor}
            writable = [settlement for settlement in settlements if settlement.shard in ours]
            return Settled(
                published=await _mark_published(connection, writable),
                deferred=await _defer(connection, writable),
                parked=await _park(connection, writable),
                fenced=len(settlements) - len(writable),
            )

    async def backlog(self) -> Backlog:
        async with self._connection() as connection:
            row = await (await connection.execute(_SQL["backlog"])).fetchone()
        assert row is not None  # noqa: S101 - an aggregate query always has a row
        return Backlog(**row)

    async def _share(self, connection: Connection) -> int:
        row = await (await connection.execute(_SQL["share"], {"owner": self._owner})).fetchone()
        return row["shards"] if row else 0

    async def _leases(self, connection: Connection, block: str, parameters: Mapping[str, Any]) -> dict[int, int]:
        cursor = await connection.execute(_SQL[block], parameters)
        return {row["shard"]: row["fence"] async for row in cursor}

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except PASSING_ERRORS as error:
            raise Unavailable(_DEPENDENCY, first_line(error)) from error


class OutboxListener:
    """Wakes the relay when a transaction with events commits.

    Only a shortcut: a notification may be lost with its connection, so the relay also polls. Each new connection counts
    as a wake-up, because nobody listened before it.

    Args:
        parameters: connection parameters; the listener has a connection of its own.
        wake: set at each wake-up; the relay clears it.
    """

    def __init__(self, parameters: Mapping[str, Any], wake: asyncio.Event) -> None:
        self._parameters = dict(parameters)
        self._wake = wake
        self._backoff = Backoff(initial=0.5, maximum=15)

    async def run(self) -> None:
        """Listen until cancelled, reconnecting as often as it takes."""
        failures = 0
        while True:
            try:
                async with await RoleConnection.connect(**self._parameters) as connection:
                    await connection.execute(_SQL["listen"])
                    failures = 0
                    self._wake.set()
                    async for _ in connection.notifies():
                        self._wake.set()
            except PASSING_ERRORS as error:
                failures += 1
                _log.warning("listening_interrupted", reason=first_line(error), failures=failures)
                await asyncio.sleep(self._backoff.delay(failures))


def _columns(leases: Leases) -> dict[str, list[int]]:
    return {"shards": list(leases.keys()), "fences": list(leases.values())}


async def _mark_published(connection: Connection, settlements: Sequence[Settlement]) -> int:
    rows = [(item.event_id, item.delivery) for item in settlements if isinstance(item.delivery, Published)]
    return await _write(
        connection,
        "mark_published",
        {
            "event_ids": [event_id for event_id, _ in rows],
            "partitions": [delivery.partition for _, delivery in rows],
            "offsets": [delivery.offset for _, delivery in rows],
        },
    )


async def _defer(connection: Connection, settlements: Sequence[Settlement]) -> int:
    rows = [(item, item.delivery.reason) for item in settlements if isinstance(item.delivery, Undelivered)]
    return await _write(
        connection,
        "defer",
        {
            "event_ids": [item.event_id for item, _ in rows],
            "reasons": [reason for _, reason in rows],
            "retry_afters": [item.retry_after for item, _ in rows],
        },
    )


async def _park(connection: Connection, settlements: Sequence[Settlement]) -> int:
    rows = [(item.event_id, item.delivery) for item in settlements if isinstance(item.delivery, Rejected)]
    return await _write(
        connection,
        "park",
        {
            "event_ids": [event_id for event_id, _ in rows],
            "reasons": [delivery.reason for _, delivery in rows],
            "contracts": [delivery.contract for _, delivery in rows],
        },
    )


async def _write(connection: Connection, block: str, columns: Mapping[str, list[Any]]) -> int:
    if not columns["event_ids"]:
        return 0
    return (await connection.execute(_SQL[block], columns)).rowcount
