"""Parked events of a consumer group in PostgreSQL; see `app.messaging.parking`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.messaging.inbox import Partition, Record
from app.messaging.parking import Category, Failure, ParkedEvent, ParkedName, ParkedState

_SQL = NamedBlocks("parked_events")


class PostgresParkedEvents:
    """See `app.messaging.parking.ParkedEvents`."""

    def __init__(self, connection: Connection, group: str, act_for: Callable[[str], Awaitable[None]]) -> None:
        self._connection = connection
        self._group = group
        self._act_for = act_for

    async def among(self, topic: str, keys: Sequence[str]) -> set[str]:
        parameters = {"group": self._group, "topic": topic, "keys": list(keys)}
        cursor = await self._connection.execute(_SQL["among"], parameters)
        return {row["aggregate_key"] async for row in cursor}

    async def add(self, event: ParkedEvent, retry_after: timedelta) -> None:
        record = event.record
        await self._act_for(event.tenant_id)
        await self._connection.execute(
            _SQL["add"],
            {
                **self._place(event.name),
                "tenant_id": event.tenant_id,
                "aggregate_key": event.aggregate_key,
                "event_id": event.event_id,
                "key": record.key,
                "value": record.value,
                "header_names": [name.encode(errors="surrogatepass") for name, _ in record.headers],
                "header_values": [value for _, value in record.headers],
                "state": event.state,
                "attempts": event.attempts,
                "retry_after": retry_after,
                **_failure(event.failure),
            },
        )

    async def get(self, name: ParkedName) -> ParkedEvent | None:
        await self._act_for(name.tenant_id)
        row = await (await self._connection.execute(_SQL["get"], self._place(name))).fetchone()
        if row is None:
            return None
        return ParkedEvent(
            record=record_of(row),
            tenant_id=row["tenant_id"],
            aggregate_key=row["aggregate_key"],
            event_id=row["event_id"],
            state=ParkedState(row["state"]),
            attempts=row["attempts"],
            failure=None
            if row["error_code"] is None
            else Failure(row["error_code"], Category(row["error_category"]), row["error_detail"]),
        )

    async def fail(self, event: ParkedEvent, failure: Failure, retry_after: timedelta) -> None:
        await self._act_for(event.tenant_id)
        parameters = {**self._place(event.name), **_failure(failure), "retry_after": retry_after}
        await self._connection.execute(_SQL["fail"], parameters)

    async def give_up(self, event: ParkedEvent, failure: Failure, dead_letter_id: UUID) -> None:
        await self._act_for(event.tenant_id)
        parameters = {
            **self._place(event.name),
            **_failure(failure),
            "attempts": event.attempts,
            "retry_count": event.attempts - 1,
            "dead_letter_id": dead_letter_id,
            "tenant_id": event.tenant_id,
            "aggregate_key": event.aggregate_key,
            "event_id": event.event_id,
        }
        await self._connection.execute(_SQL["die"], parameters)
        await self._connection.execute(_SQL["open_dead_letter"], parameters)

    async def settle(self, event: ParkedEvent) -> ParkedName | None:
        await self._act_for(event.tenant_id)
        closed = "discarded" if event.state is ParkedState.DISCARDED else "replayed"
        parameters = {**self._place(event.name), "aggregate_key": event.aggregate_key, "state": closed}
        await self._connection.execute(_SQL["remove"], parameters)
        await self._connection.execute(_SQL["close_dead_letter"], parameters)
        row = await (await self._connection.execute(_SQL["next"], parameters)).fetchone()
        if row is None:
            return None
        partition = Partition(event.record.partition.topic, row["kafka_partition"])
        following = ParkedName(partition, row["kafka_offset"], row["tenant_id"])
        await self._act_for(following.tenant_id)
        await self._connection.execute(_SQL["promote"], self._place(following))
        return following

    def _place(self, name: ParkedName) -> dict[str, Any]:
        return {
            "group": self._group,
            "topic": name.partition.topic,
            "partition": name.partition.number,
            "offset": name.offset,
        }


async def set_tenant(connection: Connection, tenant_id: str) -> None:
    """Let the rest of the transaction see one tenant's rows."""
    await connection.execute("SELECT set_config('cpq.tenant_id', %s, true)", (tenant_id,))


def record_of(row: Mapping[str, Any]) -> Record:
    """The record of a parked event's row, byte for byte as it was read."""
    names = [bytes(name).decode(errors="surrogatepass") for name in row["header_names"]]
    return Record(
        Partition(row["topic"], row["kafka_partition"]),
        row["kafka_offset"],
        row["record_key"],
        row["record_value"],
        tuple(zip(names, row["header_values"], strict=True)),
    )


def _failure(failure: Failure | None) -> dict[str, str | None]:
    return {
        "error_code": failure.code if failure else None,
        "error_category": failure.category if failure else None,
        "error_detail": failure.detail.replace("\x00", "") if failure else None,
    }
