"""Follows what operators change at run time: woken by a notification, with a look every few seconds as the net.

With the database away a process goes on with what it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection, RoleConnection
from app.runtime.logging import get_logger
from app.runtime.runtime_settings import RuntimeSettings

_SQL = NamedBlocks("runtime_settings")
PUBLISHED = "catalog"
"""Begins the notification of a publication; the tenant follows."""

_POLL_SECONDS = 5.0
_RETRY_SECONDS = 2.0
_log = get_logger(__name__)


@asynccontextmanager
async def followed(
    parameters: Mapping[str, Any],
    unit: str,
    settings: RuntimeSettings,
    on_publication: Callable[[str], Awaitable[None]] | None = None,
) -> AsyncIterator[None]:
    """Keep a unit's settings at what operators have set, for the time of the block.

    Args:
        parameters: from `connection_parameters`; one connection beside the pool is opened.
        unit: the deployable, such as `relay`.
        settings: the process's own.
        on_publication: told of tenants whose catalog was published; one that is missed is not told later.
    """
    following = asyncio.create_task(_follow(parameters, unit, settings, on_publication))
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def _follow(
    parameters: Mapping[str, Any],
    unit: str,
    settings: RuntimeSettings,
    on_publication: Callable[[str], Awaitable[None]] | None,
) -> None:
    while True:
        try:
            connection: Connection = await RoleConnection.connect(**parameters)
            async with connection:
                await connection.execute(_SQL["listen"])
                while True:
                    cursor = await connection.execute(_SQL["of_unit"], {"unit": unit})
                    settings.override({row["name"]: row["value"] for row in await cursor.fetchall()})
                    async for notification in connection.notifies(timeout=_POLL_SECONDS, stop_after=1):
                        kind, _, tenant = notification.payload.partition(" ")
                        if on_publication is not None and kind == PUBLISHED:
                            await on_publication(tenant)
        except psycopg.Error as error:
            _log.warning("configuration not followed", error=type(error).__name__)
        await asyncio.sleep(_RETRY_SECONDS)
