"""Consumer groups as operators see them: which partitions wait for a decision, and where each group goes on."""

from __future__ import annotations

from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.messaging.inbox import Partition

_SQL = NamedBlocks("consumer_operations")


class ConsumerOperations:
    """On a connection of the operators' role or of the owner."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def halts(self, group: str | None) -> list[dict[str, Any]]:
        """Return the partitions of a group, or of all, that wait for an operator."""
        return await (await self._connection.execute(_SQL["halts"], {"group": group})).fetchall()

    async def lift_limit(self, group: str) -> list[Partition]:
        """Let the partitions go on that the dead-letter limit stopped, and return them."""
        cursor = await self._connection.execute(_SQL["lift_limit"], {"group": group})
        return sorted([Partition(row["topic"], row["kafka_partition"]) async for row in cursor])

    async def positions(self, topic: str) -> dict[tuple[str, int], int]:
        """Return where each group goes on in each partition of a topic that it has a position in."""
        cursor = await self._connection.execute(_SQL["positions"], {"topic": topic})
        return {(row["consumer_group"], row["kafka_partition"]): row["next_offset"] async for row in cursor}

    async def move(self, group: str, partition: Partition, offset: int) -> None:
        """Let a group go on elsewhere in a partition, which waits for no decision any more."""
        place = {"group": group, "topic": partition.topic, "partition": partition.number}
        await self._connection.execute(_SQL["move"], {**place, "offset": offset})
        await self._connection.execute(_SQL["lift"], place)

    async def living_relays(self) -> list[str]:
        """Return the relays that may publish now."""
        return [row["owner"] async for row in await self._connection.execute(_SQL["relays"])]
