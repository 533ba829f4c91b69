"""Dead letters of a consumer group in PostgreSQL; see `app.messaging.dead_letters`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from app.adapters.postgres.consumer_errors import translated_errors
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.parked_events import record_of, set_tenant
from app.adapters.postgres.pool import Pool
from app.messaging.dead_letters import DeadLetter
from app.messaging.inbox import Partition
from app.messaging.outbox import Published

_SQL = NamedBlocks("dead_letters")


class PostgresDeadLetters:
    """See `app.messaging.dead_letters.DeadLetterStore`.

    Args:
        pool: connections of the consumer's own role, open.
        group: the consumer group.
    """

    def __init__(self, pool: Pool, group: str) -> None:
        self._pool = pool
        self._group = group

    async def unpublished(self, limit: int) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        with translated_errors():
            async with self._pool.connection() as connection:
                parameters = {"group": self._group, "limit": limit}
                names = await (await connection.execute(_SQL["unpublished"], parameters)).fetchall()
                for name in names:
                    async with connection.transaction():
                        await set_tenant(connection, name["tenant_id"])
                        row = await (await connection.execute(_SQL["get"], name)).fetchone()
                    if row is not None:
                        letters.append(_letter(row))
        return letters

    async def published(self, letter: DeadLetter, where: Published) -> None:
        await self._mark(letter, "published", {"partition": where.partition, "offset": where.offset})

    async def postpone(self, letter: DeadLetter, reason: str, delay: timedelta) -> None:
        await self._mark(letter, "postpone", {"reason": reason, "delay": delay})

    async def _mark(self, letter: DeadLetter, block: str, values: Mapping[str, object]) -> None:
        parameters = {"dead_letter_id": letter.dead_letter_id, "failed_at": letter.failed_at, **values}
        with translated_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await set_tenant(connection, letter.tenant_id)
                await connection.execute(_SQL[block], parameters)


def _letter(row: Mapping[str, Any]) -> DeadLetter:
    return DeadLetter(
        dead_letter_id=row["dead_letter_id"],
        tenant_id=row["tenant_id"],
        consumer_group=row["consumer_group"],
        partition=Partition(row["topic"], row["kafka_partition"]),
        offset=row["kafka_offset"],
        aggregate_key=row["aggregate_key"],
        event_id=row["event_id"],
        error_code=row["error_code"],
        error_category=row["error_category"],
        retry_count=row["retry_count"],
        failed_at=row["failed_at"],
        publish_attempts=row["publish_attempts"],
        record=record_of(row) if row["is_parked"] else None,
    )
