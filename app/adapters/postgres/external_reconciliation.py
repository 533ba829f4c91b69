"""The recorded calls of all tenants, for the comparison with external systems."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.external_reconciliation import WrittenCall

_SQL = NamedBlocks("external_reconciliation")


class PostgresCallBook:
    """See `app.application.external_reconciliation.CallBook`; the connection is of the operators' role."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def began_between(self, system: str, start: datetime, end: datetime) -> list[WrittenCall]:
        return await self._calls("began_between", {"system": system, "start": start, "end": end})

    async def open_between(self, system: str, start: datetime, end: datetime) -> list[WrittenCall]:
        return await self._calls("open_between", {"system": system, "start": start, "end": end})

    async def known(self, system: str, keys: Collection[str]) -> frozenset[str]:
        cursor = await self._connection.execute(_SQL["known"], {"system": system, "keys": list(keys)})
        return frozenset([row["idempotency_key"] for row in await cursor.fetchall()])

    async def _calls(self, block: str, values: Mapping[str, Any]) -> list[WrittenCall]:
        cursor = await self._connection.execute(_SQL[block], values)
        return [WrittenCall(**row) for row in await cursor.fetchall()]
