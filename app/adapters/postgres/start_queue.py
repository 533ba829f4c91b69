"""What the starter asks PostgreSQL beside its transactions: the due references of all tenants, and to be woken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Pool, RoleConnection
from app.adapters.postgres.unit_of_work import translated_errors
from app.application.ports import DueStart
from app.runtime.logging import get_logger

log = get_logger(__name__)

_SQL = NamedBlocks("start_queue")
_LISTEN_RETRY_SECONDS = 2.0


class PostgresStartQueue:
    """See `app.application.ports.StartQueue`; `flag_defaults` are the contract's."""

    def __init__(self, pool: Pool, flag_defaults: Mapping[str, bool]) -> None:
        self._pool = pool
        self._flag_defaults = flag_defaults

    async def due(self, limit: int, flag: str) -> list[DueStart]:
        values = {"limit": limit, "flag": flag, "default": self._flag_defaults[flag]}
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["due"], values)
                return [DueStart(row["order_id"], row["tenant_id"]) for row in await cursor.fetchall()]


class WorkflowRequests:
    """Sets `wake` when somebody committed a workflow request.

    A courtesy, not a guarantee: notifications of a lost connection are gone, so whoever waits also polls.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Remember how to connect.

        Args:
            parameters: from `connection_parameters`; the listening connection is one beside the pool.
        """
        self._parameters = dict(parameters)
        self.wake = asyncio.Event()

    async def listen(self) -> None:
        """Listen until cancelled, connecting again as often as it takes."""
        while True:
            try:
                connection = await RoleConnection.connect(**self._parameters)
                async with connection:
                    await connection.execute("LISTEN workflow")
                    async for _ in connection.notifies():
                        self.wake.set()
            except psycopg.OperationalError as error:
                log.warning("not listening for workflow requests", error=type(error).__name__)
            await asyncio.sleep(_LISTEN_RETRY_SECONDS)
